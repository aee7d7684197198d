"""One small encoder for every operator and option that the engine reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tests.bounds.encoders import EncoderBuilder

PADS = [1, 1, 1, 1]


def _net(seed: int = 0, opset: int = 17) -> EncoderBuilder:
    """Normalisation and a convolution of the 8x8 image to 4 channels."""
    return EncoderBuilder(seed=seed, opset=opset).normalise().conv(4, 3, pads=PADS)


def _end(builder: EncoderBuilder, features: int) -> bytes:
    return builder.relu().head(features, 5)


def _conv(**attributes: Any) -> Callable[[], EncoderBuilder]:
    return lambda: _net().relu().conv(6, 3, **attributes)


def _pool(kind: str, **attributes: Any) -> Callable[[], EncoderBuilder]:
    return lambda: _net().op(kind, **attributes)


def _activation(
    kind: str, *constants: np.ndarray, opset: int = 17, **attributes: Any
) -> Callable[[], EncoderBuilder]:
    return lambda: _net(opset=opset).op(kind, *constants, **attributes)


def _multi(
    kind: str, outputs: int, *constants: np.ndarray, opset: int = 17, **attributes: Any
) -> Callable[[EncoderBuilder], list[str]]:
    def add(builder: EncoderBuilder) -> list[str]:
        builder.op(kind, *constants, **attributes)
        node = builder.nodes[-1]
        del node.output[:]
        node.output.extend(f"{node.name}_{k}" for k in range(outputs))
        return list(node.output)

    return add


def max_min(largest_first: bool = True) -> EncoderBuilder:
    """Max and Min of the two halves of the channels."""
    builder = _net()
    a, b = _multi("Split", 2, np.array([2, 2]), axis=1)(builder)
    ends = []
    for kind in ("Max", "Min") if largest_first else ("Min", "Max"):
        builder._append(kind, [a, b], {})
        ends.append(builder.last)
    return builder._append("Concat", ends, {"axis": 1})


def group_sort(*, top_k: bool) -> EncoderBuilder:
    """Pairs of neighbouring channels in ascending order."""
    builder = _net().op("Reshape", np.array([0, 2, 2, 8, 8]))
    if top_k:
        _multi("TopK", 2, np.array([2]), axis=2, largest=0)(builder)
        builder.last = builder.nodes[-1].output[0]
    else:
        start, ends = builder.last, []
        for kind in ("ReduceMin", "ReduceMax"):
            builder._append(kind, [start], {"axes": [2], "keepdims": 1})
            ends.append(builder.last)
        builder._append("Concat", ends, {"axis": 2})
    return builder.op("Reshape", np.array([-1, 4, 8, 8]))


def sorted_groups(size: int, kept: int, channels: int) -> EncoderBuilder:
    """The ``kept`` largest of groups of channels in descending order."""
    builder = _net().relu().conv(channels, 1).op("Reshape", np.array([0, -1, size, 8, 8]))
    _multi("TopK", 2, np.array([kept]), axis=2)(builder)
    builder.last = builder.nodes[-1].output[0]
    return builder.op("Reshape", np.array([0, channels // size * kept, 8, 8]))


def gelu_by_erf(form: int) -> EncoderBuilder:
    """The three ways that exporters write it."""
    builder = _net()
    x, half, one = builder.last, np.array(0.5), np.array(1.0)
    if form == 0:
        builder.op("Div", np.array(np.sqrt(2.0)))
    else:
        builder.op("Mul", np.array(np.sqrt(0.5)))
    builder.op("Erf").op("Add", one)
    inner = builder.last
    if form == 2:
        builder.last = x
        builder.op("Mul", half)
        return builder._append("Mul", [builder.last, inner], {})
    return builder._append("Mul", [x, inner], {}).op("Mul", half)


def tanh_gelu(builder: EncoderBuilder, *, power: bool) -> EncoderBuilder:
    """The form with tanh, its cube by Pow or by two products, and factors in two orders."""
    x, half = builder.last, np.array(0.5)
    if power:
        builder.op("Pow", np.array(3.0))
    else:
        builder._append("Mul", [x, x], {})
        builder._append("Mul", [x, builder.last], {})
    builder.op("Mul", np.array(0.044715))
    builder._append("Add", [x, builder.last], {}).op("Mul", np.array(np.sqrt(2 / np.pi)))
    inner = builder.op("Tanh").op("Add", np.array(1.0)).last
    if not power:
        return builder._append("Mul", [x, inner], {}).op("Mul", half)
    builder.last = x
    builder.op("Mul", half)
    return builder._append("Mul", [builder.last, inner], {})


def branches(kind: str, **attributes: Any) -> EncoderBuilder:
    """Two convolutions of one activation, joined."""
    builder = _net().relu()
    start, ends = builder.last, []
    for _ in range(2):
        builder.last, builder.channels = start, 4
        ends.append(builder.conv(3, 3, pads=PADS).last)
    return builder._append(kind, ends, attributes)


def reshaped_by_its_shape() -> EncoderBuilder:
    """x.view(x.size(0), -1), as an exporter with a free batch writes it."""
    builder = _net()
    data = builder.last
    builder.op("Shape").op("Gather", np.array([0]), axis=0)
    size = builder.last
    rest = builder._constant(np.array([2]))
    builder._append("Concat", [size, rest, builder._constant(np.array([2, 64]))], {"axis": 0})
    return builder._append("Reshape", [data, builder.last], {})


def _resize(mode: str, coordinates: str, scales: list[float], **more: Any) -> EncoderBuilder:
    builder = _net()
    nothing = builder._constant(np.zeros(0))
    factors = builder._constant(np.array([1.0, 1.0, *scales]))
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, **more}
    return builder._append("Resize", [builder.last, nothing, factors], attributes)


def rank_four() -> EncoderBuilder:
    """Two functions of one activation that is neither a vector nor an image plane."""
    builder = EncoderBuilder().op("Reshape", np.array([0, 3, 2, 4, 8]))
    start, ends = builder.last, []
    for kind in ("Abs", "Tanh"):
        ends.append(builder._append(kind, [start], {}).last)
    return builder._append("Add", ends, {}).op("Reshape", np.array([0, 3, 8, 8]))


def _constant_node() -> EncoderBuilder:
    builder = _net()
    value = numpy_helper.from_array(np.array([[[[0.5]]]], np.float32))
    builder.nodes.append(helper.make_node("Constant", [], ["half"], name="half", value=value))
    return builder._append("Sub", ["half", builder.last], {})


NETS: dict[str, tuple[Callable[[], EncoderBuilder], int]] = {
    "conv-dilated": (_conv(dilations=[2, 3], pads=[2, 3, 2, 3]), 6 * 64),
    "conv-same-upper": (_conv(auto_pad="SAME_UPPER", strides=[3, 2]), 6 * 12),
    "conv-same-lower": (_conv(auto_pad="SAME_LOWER", strides=[2, 2]), 6 * 16),
    "conv-valid": (_conv(auto_pad="VALID", strides=[2, 1]), 6 * 18),
    "conv-depthwise": (lambda: _net().conv(8, 3, groups=4, pads=PADS, strides=[2, 2]), 8 * 16),
    "leaky-relu": (_activation("LeakyRelu", alpha=0.2), 256),
    "leaky-relu-steep": (_activation("LeakyRelu", alpha=1.7), 256),
    "leaky-relu-negative": (_activation("LeakyRelu", alpha=-0.4), 256),
    "prelu": (_activation("PRelu", np.array([-1.3, 0.3, 1.0, 2.0]).reshape(4, 1, 1)), 256),
    "prelu-one": (_activation("PRelu", np.array([0.1])), 256),
    "abs": (_activation("Abs"), 256),
    "tanh": (_activation("Tanh"), 256),
    "sigmoid": (_activation("Sigmoid"), 256),
    "gelu": (_activation("Gelu", opset=20), 256),
    "gelu-div": (lambda: gelu_by_erf(0), 256),
    "gelu-mul": (lambda: gelu_by_erf(1), 256),
    "gelu-half-first": (lambda: gelu_by_erf(2), 256),
    "relu6": (_activation("Clip", np.array(0.0), np.array(6.0)), 256),
    "clip": (_activation("Clip", np.array(-0.3), np.array(0.4)), 256),
    "clip-from": (_activation("Clip", np.array(-0.2)), 256),
    "gelu-tanh": (_activation("Gelu", opset=20, approximate="tanh"), 256),
    "gelu-by-tanh": (lambda: tanh_gelu(_net(), power=False), 256),
    "gelu-by-pow": (lambda: tanh_gelu(_net(), power=True), 256),
    "neg": (_activation("Neg"), 256),
    "max-pool": (_pool("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), 64),
    "max-pool-overlapping": (
        _pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=PADS),
        64,
    ),
    "max-pool-ceil": (
        _pool("MaxPool", kernel_shape=[4, 3], strides=[3, 3], pads=[1, 0, 0, 0], ceil_mode=1),
        36,
    ),
    "max-pool-dilated": (_pool("MaxPool", kernel_shape=[2, 2], dilations=[3, 2]), 4 * 5 * 6),
    "max-pool-same": (
        _pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
        64,
    ),
    "global-max-pool": (_pool("GlobalMaxPool"), 4),
    "average-pool": (_pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=PADS), 64),
    "average-pool-counted": (
        _pool("AveragePool", kernel_shape=[3, 3], pads=PADS, count_include_pad=1),
        256,
    ),
    "average-pool-ceil": (
        _pool("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        64,
    ),
    "average-pool-ceil-counted": (
        _pool(
            "AveragePool",
            kernel_shape=[3, 3],
            strides=[2, 2],
            pads=PADS,
            ceil_mode=1,
            count_include_pad=1,
        ),
        100,
    ),
    "global-average-pool": (_pool("GlobalAveragePool"), 4),
    "reduce-mean": (_pool("ReduceMean", axes=[-2, -1], keepdims=0), 4),
    "reduce-max": (_pool("ReduceMax", axes=[1], keepdims=1), 64),
    "reduce-min": (_pool("ReduceMin", axes=[2, 3], keepdims=0), 4),
    "max-min": (lambda: max_min(), 256),
    "min-max": (lambda: max_min(largest_first=False), 256),
    "group-sort": (lambda: group_sort(top_k=False), 256),
    "group-sort-top-k": (lambda: group_sort(top_k=True), 256),
    "group-sort-4": (lambda: sorted_groups(4, 4, 8), 512),
    "group-sort-5-top-2": (lambda: sorted_groups(5, 2, 5), 128),
    "maxout": (lambda: branches("Max"), 192),
    "add": (lambda: branches("Add"), 192),
    "concat": (lambda: branches("Concat", axis=1), 384),
    "concat-rows": (lambda: branches("Concat", axis=-2), 384),
    "transpose": (lambda: _net().op("Transpose", perm=[0, 2, 3, 1]), 256),
    "slice": (
        lambda: _net().op("Slice", *(np.array(v) for v in ([7, 1], [-9, 4], [3, 1], [-2, 1]))),
        3 * 8 * 4,
    ),
    "gather": (lambda: _net().op("Gather", np.array([2, 0, -1, 2]), axis=1), 256),
    "pad": (lambda: _net().op("Pad", np.array([0, 0, 1, 0, 0, 1, 0, 2])), 5 * 9 * 10),
    "pad-reflect": (
        lambda: _net().op("Pad", np.array([0, 0, 2, 0, 0, 0, 0, 1]), mode="reflect"),
        4 * 10 * 9,
    ),
    "squeeze": (
        lambda: _net().op("Unsqueeze", np.array([2])).op("Squeeze", np.array([2])),
        256,
    ),
    "dropout": (_pool("Dropout"), 256),
    "identity": (_pool("Identity"), 256),
    "cast": (lambda: _net().op("Cast", to=1), 256),
    "constant-node": (_constant_node, 256),
    "rank-four": (rank_four, 192),
    "shape-arithmetic": (reshaped_by_its_shape, 256),
    "resize-nearest": (
        lambda: _resize("nearest", "asymmetric", [3, 2], nearest_mode="floor"),
        1536,
    ),
    "resize-nearest-down": (lambda: _resize("nearest", "half_pixel", [0.6, 0.4]), 4 * 12),
    "resize-linear": (lambda: _resize("linear", "half_pixel", [2, 2]), 1024),
    "resize-linear-down": (lambda: _resize("linear", "pytorch_half_pixel", [0.5, 0.25]), 32),
    "resize-linear-any": (lambda: _resize("linear", "half_pixel", [1.4, 0.7]), 4 * 11 * 5),
    "resize-linear-any-asymmetric": (
        lambda: _resize("linear", "asymmetric", [0.45, 1.7]),
        4 * 3 * 13,
    ),
    "resize-linear-corners": (lambda: _resize("linear", "align_corners", [1.3, 0.6]), 4 * 10 * 4),
    "resize-linear-asymmetric": (lambda: _resize("linear", "asymmetric", [2, 1]), 512),
}


def net(name: str) -> bytes:
    """The encoder of one operator, followed by ReLU, flatten and a matrix."""
    make, features = NETS[name]
    return _end(make(), features)
