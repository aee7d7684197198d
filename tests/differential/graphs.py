"""Small random graphs: several operators of the grid after one another, as an exporter might."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, Case, File, floats, integers
from tests.differential.space import some
from tests.soundness.generator import OPERATORS, random_encoder

OPSETS = (7, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25)


class Chain:
    """A file in the making: its last value and the shape that value has, without the batch."""

    def __init__(self, opset: int, seed: int, shape: tuple[int, ...] = (4, 6, 6)) -> None:
        self.file = File(shape, opset, seed)
        self.last = "x"
        self.shape = shape

    def pick(self, *choices: Any) -> Any:
        """One of the choices."""
        return choices[int(self.file.random.integers(len(choices)))]

    def then(
        self, kind: str, *inputs: Any, shape: tuple[int, ...] | None = None, **given: Any
    ) -> None:
        """Append a node that reads the last value, which has ``shape`` afterwards."""
        self.last = self.file.add(kind, self.last, *inputs, **given)
        self.shape = shape or self.shape


def _convolution(c: Chain) -> None:
    group, out, step = c.pick(1, 1, 2), c.pick(2, 4), c.pick(1, 1, 2)
    channels, high, wide = c.shape
    if channels % group:
        group = 1
    weight = c.file.weights(out, channels // group, 3, 3, size=0.3)
    padding: dict[str, Any] = c.pick(
        {"pads": [1] * 4}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}
    )
    if "pads" in padding:
        size = [(side - 1) // step + 1 for side in (high, wide)]
    else:
        size = [math.ceil(side / step) for side in (high, wide)]
    bias = c.pick([], [None], [c.file.weights(out)])
    c.then("Conv", weight, *bias, strides=[step, step], group=group, **padding, shape=(out, *size))


def _pool(c: Chain) -> None:
    kind, ceil = c.pick("MaxPool", "AveragePool"), c.pick(0, 1) if c.file.opset >= 10 else 0
    channels, high, wide = c.shape
    kernel = [min(2, high), min(2, wide)]
    rounded = math.ceil if ceil else math.floor
    size = [rounded((side - k) / 2) + 1 for side, k in zip((high, wide), kernel, strict=True)]
    given = {"ceil_mode": ceil} if ceil else {}
    c.then(kind, kernel_shape=kernel, strides=[2, 2], shape=(channels, *size), **given)


def _padded(c: Chain) -> None:
    mode, (channels, high, wide) = c.pick("constant", "edge"), c.shape
    pads = [0, 0, 1, 0, 0, 0, 0, 2]
    wanted = (channels, high + 1, wide + 2)
    if c.file.opset < 11:
        c.then("Pad", pads=pads, mode=mode, shape=wanted)
    else:
        c.then("Pad", integers(*pads), mode=mode, shape=wanted)


def _cut(c: Chain) -> None:
    channels, high, wide = c.shape
    if high < 2:
        return
    if c.file.opset < 10:
        c.then("Slice", starts=[1], ends=[100], axes=[2], shape=(channels, high - 1, wide))
    else:
        c.then("Slice", integers(-1), integers(-100), integers(2), integers(-1))


def _residual(c: Chain) -> None:
    start, shape = c.last, c.shape
    _constant(c)
    _activation(c)
    c.last, c.shape = c.file.add("Add", start, c.last), shape


def _joined(c: Chain) -> None:
    start, (channels, *space) = c.last, c.shape
    _activation(c)
    axis = c.pick(1, -3)
    c.last, c.shape = c.file.add("Concat", c.last, start, axis=axis), (2 * channels, *space)


def _constant(c: Chain) -> None:
    channels = c.shape[0]
    kind, beside = (
        c.pick("Add", "Mul", "Sub", "Div"),
        c.pick((1,), (channels, 1, 1), (1, channels, 1, 1)),
    )
    value = c.file.weights(*beside)
    c.then(kind, (np.sign(value) * (np.abs(value) + np.float32(0.3))).astype(np.float32))


def _normalised(c: Chain) -> None:
    count = c.shape[0]
    variance = np.abs(c.file.weights(count)) + np.float32(0.3)
    c.then("BatchNormalization", *(c.file.weights(count) for _ in range(3)), variance)


def _activation(c: Chain) -> None:
    kind, given = c.pick(
        ("Relu", {}),
        ("LeakyRelu", {"alpha": 0.2}),
        ("Sigmoid", {}),
        ("Tanh", {}),
        ("HardSigmoid", {}),
        ("Elu", {}),
        ("Softplus", {}),
    )
    c.then(kind, **given)


def _turned(c: Chain) -> None:
    channels, high, wide = c.shape
    c.then("Transpose", perm=[0, 1, 3, 2], shape=(channels, wide, high))


def _resized(c: Chain) -> None:
    if c.file.opset < 11:
        return
    channels, high, wide = c.shape
    mode, where = c.pick("nearest", "linear"), c.pick("asymmetric", "half_pixel", "align_corners")
    given = {"mode": mode, "coordinate_transformation_mode": where}
    given |= {"nearest_mode": "floor"} if mode == "nearest" else {}
    c.then("Resize", None, floats(1, 1, 2, 1), shape=(channels, 2 * high, wide), **given)


def _largest(c: Chain) -> None:
    channels, _, wide = c.shape
    if c.file.opset < 18:
        c.then(c.pick("ReduceMax", "ReduceMin"), axes=[c.pick(2, -2)], shape=(channels, 1, wide))
    else:
        c.then(c.pick("ReduceMax", "ReduceMin"), integers(c.pick(2, -2)), shape=(channels, 1, wide))


def _reshaped(c: Chain) -> None:
    channels, high, wide = c.shape
    sizes = c.file.add("Shape", c.last)
    batch = c.file.add("Gather", sizes, integers(0), axis=0)
    target = c.file.add("Concat", batch, integers(channels * high, -1, 1), axis=0)
    c.then("Reshape", target, shape=(channels * high, wide, 1))


STEPS: tuple[Callable[[Chain], None], ...] = (
    _convolution,
    _convolution,
    _pool,
    _padded,
    _cut,
    _residual,
    _joined,
    _constant,
    _normalised,
    _activation,
    _activation,
    _turned,
    _resized,
    _largest,
    _reshaped,
)


def chained(count: int = 400) -> Iterator[Case]:
    """Chains of 3-5 steps with a linear end."""
    for seed in some(range(count)):
        opset = OPSETS[seed % len(OPSETS)]
        chain = Chain(opset, seed)
        steps = [chain.pick(*STEPS) for _ in range(chain.pick(3, 4, 5))]
        for step in steps:
            step(chain)
        chain.then("Flatten", shape=(math.prod(chain.shape),))
        chain.then(
            "Gemm",
            chain.file.weights(4, chain.shape[0], size=0.3),
            chain.file.weights(4),
            transB=1,
            alpha=chain.pick(ABSENT, 0.5),
        )
        names = ", ".join(step.__name__.strip("_") for step in steps)
        yield Case(
            "graphs",
            f"seed={seed} opset={opset}: {names}",
            chain.file.finish(chain.last, flat=False),
        )


def encoders(count: int = 3) -> Iterator[Case]:
    """The random encoders of the soundness suite: each of its operators in the middle of others."""
    for focus, seed in some(list(itertools.product(OPERATORS, range(count)))):
        yield Case("encoders", f"{focus} seed={seed}", random_encoder(focus, seed))


GRAPHS = {"graphs": chained, "encoders": encoders}
