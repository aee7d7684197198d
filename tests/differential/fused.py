"""Neighbours that ONNX Runtime makes one node of, in the widths of its blocked kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.differential.file import Case, integers
from tests.differential.graphs import Chain
from tests.differential.space import some

Step = Callable[[Chain], None]


def _convolution(c: Chain, out: int = 16, group: int = 1, **given: Any) -> None:
    channels, high, wide = c.shape
    size = given.get("strides", [1, 1])[0]
    weight = c.file.weights(out, channels // group, 3, 3, size=0.1)
    kept = (out, (high - 1) // size + 1, (wide - 1) // size + 1)
    c.then("Conv", weight, c.file.weights(out), pads=[1] * 4, group=group, shape=kept, **given)


def _bare_convolution(c: Chain) -> None:
    channels, high, wide = c.shape
    weight = c.file.weights(16, channels, 2, 2, size=0.1)
    c.then("Conv", weight, shape=(16, high - 1, wide - 1))


def _normalised(c: Chain) -> None:
    count = c.shape[0]
    moments = (*(c.file.weights(count) for _ in range(3)), abs(c.file.weights(count)) + 0.3)
    c.then("BatchNormalization", *(value.astype(np.float32) for value in moments))


def _by(kind: str, *sizes: int) -> Step:
    def step(c: Chain) -> None:
        value = c.file.weights(*(c.shape[0] if size < 0 else size for size in sizes))
        c.then(kind, (np.sign(value) * (abs(value) + 0.3)).astype(np.float32))

    return step


def _padded(mode: str) -> Step:
    def step(c: Chain) -> None:
        channels, high, wide = c.shape
        c.then("Pad", integers(0, 0, 1, 0, 0, 0, 1, 1), mode=mode,
               shape=(channels, high + 2, wide + 1))  # fmt: skip

    return step


def _pooled(kind: str, **given: Any) -> Step:
    def step(c: Chain) -> None:
        channels, high, wide = c.shape
        c.then(kind, kernel_shape=[2, 2], **given, shape=(channels, high - 1, wide - 1))

    return step


def _clipped(least: float | None, most: float | None) -> Step:
    def step(c: Chain) -> None:
        limits = [None if limit is None else np.float32(limit) for limit in (least, most)]
        c.then("Clip", *limits)

    return step


def _residual(c: Chain) -> None:
    start, shape = c.last, c.shape
    _convolution(c, out=shape[0])
    c.last, c.shape = c.file.add("Add", c.last, start), shape


def _resized(c: Chain) -> None:
    channels, high, wide = c.shape
    scales = np.array([1, 1, 2, 2], np.float32)
    region = np.zeros(0, np.float32) if c.file.opset < 13 else None
    c.then("Resize", region, scales, mode="nearest", coordinate_transformation_mode="asymmetric",
           nearest_mode="floor", shape=(channels, 2 * high, 2 * wide))  # fmt: skip


def _joined(c: Chain) -> None:
    channels, *space = c.shape
    start = c.last
    c.then("Relu")
    c.last, c.shape = c.file.add("Concat", c.last, start, axis=1), (2 * channels, *space)


def _turned(*perm: int) -> Step:
    def step(c: Chain) -> None:
        c.then("Transpose", perm=perm, shape=tuple(c.shape[k - 1] for k in perm[1:]))

    return step


def _cut(c: Chain) -> None:
    channels, high, wide = c.shape
    c.then("Slice", integers(1), integers(100), integers(2), shape=(channels, high - 1, wide))


def _plain(kind: str, **given: Any) -> Step:
    return lambda c: c.then(kind, **given)


STEPS: dict[str, Step] = {
    "Conv": _convolution,
    "Conv without bias": _bare_convolution,
    "Conv of stride 2": lambda c: _convolution(c, strides=[2, 2]),
    "Conv of each channel": lambda c: _convolution(c, out=c.shape[0], group=c.shape[0]),
    "BatchNormalization": _normalised,
    "Add a channel": _by("Add", 1, -1, 1, 1),
    "Mul a channel": _by("Mul", -1, 1, 1),
    "Add one": _by("Add", 1),
    "Mul one": _by("Mul", 1),
    "Div one": _by("Div", 1),
    "Sub a channel": _by("Sub", 1, -1, 1, 1),
    "Pad": _padded("constant"),
    "Pad by edges": _padded("edge"),
    "MaxPool": _pooled("MaxPool"),
    "AveragePool": _pooled("AveragePool"),
    "AveragePool counting": _pooled("AveragePool", count_include_pad=1),
    "Relu": _plain("Relu"),
    "LeakyRelu": _plain("LeakyRelu", alpha=0.1),
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
    "HardSigmoid": _plain("HardSigmoid", alpha=0.3),
    "Clip": _clipped(-0.2, 0.3),
    "Clip to 6": _clipped(0.0, 6.0),
    "Clip below": _clipped(0.1, None),
    "residual": _residual,
    "Resize": _resized,
    "Concat": _joined,
    "Transpose": _turned(0, 1, 3, 2),
    "channels last": _turned(0, 2, 3, 1),
    "Slice": _cut,
    "Dropout": _plain("Dropout"),
    "Identity": _plain("Identity"),
}
OPSETS = (11, 13, 17, 21)


def pairs() -> Iterator[Case]:
    """Every step before every other one, in 16 channels, between convolutions or alone."""
    for number, (first, second) in some(list(enumerate(itertools.product(STEPS, STEPS)))):
        chain = Chain(OPSETS[number % len(OPSETS)], number, (16, 6, 6))
        if number % 3 == 0:
            _convolution(chain)
        STEPS[first](chain)
        STEPS[second](chain)
        if number % 3 == 1:
            _convolution(chain)
        chain.then("Flatten", shape=(math.prod(chain.shape),))
        name = f"number={number} opset={chain.file.opset}: {first}, {second}"
        yield Case("pairs", name, chain.file.finish(chain.last, flat=False))


FUSED = {"pairs": pairs}
