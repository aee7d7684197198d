"""One function per ONNX operator: what it means as affine maps, activations and sums.

Opset 13 to the newest known to ``onnx``. An option that is not listed is as unsupported as an
unknown operator; defaults follow the ONNX specification.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import helper
from torch import Tensor

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.activation import RELU
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maps import Convolution, Dense, Reshape, Scaling
from reaas_bounds.graph.nodes import Activation, Sum
from reaas_bounds.graph.onnx_file import check_activation, label, read_tensor
from reaas_bounds.graph.window import Shape

_ONE = torch.ones((), dtype=torch.float64)


def _options(node: onnx.NodeProto, **defaults: Any) -> dict[str, Any]:
    """The node's attributes over ``defaults``; one that is not listed is unsupported."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for name in given:
        if name not in defaults:
            raise UnsupportedOperatorError(label(node), f"{node.op_type} with {name}")
    return defaults | given


def _require(node: onnx.NodeProto, condition: bool, option: str) -> None:
    if not condition:
        raise UnsupportedOperatorError(label(node), f"{node.op_type} with {option}")


def _geometry(node: onnx.NodeProto, options: dict[str, Any], kernel: Shape) -> dict[str, Any]:
    """Stride, padding and dilation of a sliding window, checked."""
    auto = options["auto_pad"]
    _require(node, auto in (b"NOTSET", b"VALID"), f"auto_pad={auto.decode(errors='replace')}")
    stated = options["kernel_shape"]
    pads = tuple(options["pads"]) if auto == b"NOTSET" else (0, 0, 0, 0)
    stride, dilation = tuple(options["strides"]), tuple(options["dilations"])
    sane = len(stride) == len(dilation) == 2 and len(pads) == 4 and min(pads) >= 0
    if not sane or min(stride + dilation) < 1 or (stated and tuple(stated) != kernel):
        raise InvalidModelError(
            f"node {label(node)!r}: kernel {list(kernel)} with kernel_shape {stated}, strides "
            f"{list(stride)}, pads {list(pads)}, dilations {list(dilation)} is no 2-D window"
        )
    return {"stride": stride, "pads": pads, "dilation": dilation}


_WINDOW = {"auto_pad": b"NOTSET", "kernel_shape": (), "strides": (1, 1), "pads": (0, 0, 0, 0)}


def _conv(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options = _options(node, **_WINDOW, dilations=(1, 1), group=1)
    weight = builder.weight(node, 1)  # [o, i/g, kh, kw]
    shape = builder.shape(node, rank=3)
    groups = int(options["group"])
    _require(node, weight.dim() == 4, f"a kernel of rank {weight.dim()}")
    fits = groups >= 1 and weight.shape[0] % groups == 0 and weight.shape[1] * groups == shape[0]
    if not fits:
        raise InvalidModelError(
            f"node {label(node)!r}: kernel {list(weight.shape)} in {groups} groups does not fit "
            f"an activation {list(shape)}"
        )
    geometry = _geometry(node, options, tuple(weight.shape[2:]))
    linear = _convolution(node, weight, shape, groups, geometry)
    bias = builder.weight(node, 2) if builder.has(node, 2) else torch.zeros(1, dtype=torch.float64)
    builder.affine(node, linear, _channels(node, bias, linear.output_shape))


def _convolution(
    node: onnx.NodeProto, weight: Tensor, shape: Shape, groups: int, geometry: dict[str, Any]
) -> Convolution:
    """The convolution, unless its padded input or dilated kernel is too large to work with."""
    top, left, bottom, right = geometry.get("pads", (0, 0, 0, 0))
    padded = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
    check_activation(padded, f"padded input of {label(node)}")
    taps = zip(weight.shape[2:], geometry.get("dilation", (1, 1)), strict=True)
    spans = [step * (size - 1) + 1 for size, step in taps]
    check_activation((*weight.shape[:2], *spans), f"dilated kernel of {label(node)}")
    return Convolution(weight, shape, groups=groups, **geometry)


def _channels(node: onnx.NodeProto, vector: Tensor, shape: Shape) -> Tensor:
    """One number per channel as [C, 1, 1] (or [d] for a vector activation)."""
    if vector.dim() != 1 or vector.numel() not in (1, shape[0]):
        raise InvalidModelError(
            f"node {label(node)!r}: {list(vector.shape)} parameters for {shape[0]} channels"
        )
    return vector.reshape(-1, *(1 for _ in shape[1:]))


def _gemm(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options = _options(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    _require(node, options["transA"] == 0, "transA")
    weight = builder.weight(node, 1)
    weight = weight if options["transB"] else weight.T  # [o, i]
    linear = _matrix(builder, node, options["alpha"] * weight)
    if not builder.has(node, 2):
        builder.affine(node, linear)
        return
    bias = options["beta"] * builder.weight(node, 2)
    builder.affine(node, linear, _fitting(node, bias, linear.output_shape))


def _matmul(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    builder.affine(node, _matrix(builder, node, builder.weight(node, 1).T))


def _matrix(builder: GraphBuilder, node: onnx.NodeProto, weight: Tensor) -> Dense:
    shape = builder.shape(node, rank=1)
    if weight.dim() != 2 or weight.shape[1] != shape[0]:
        raise InvalidModelError(
            f"node {label(node)!r}: matrix {list(weight.shape)} for a vector {list(shape)}"
        )
    return Dense(weight.contiguous(), shape, (weight.shape[0],))


def _fitting(node: onnx.NodeProto, constant: Tensor, shape: Shape) -> Tensor:
    """``constant`` without its batch axis, if it broadcasts to an activation of ``shape``."""
    if constant.dim() == len(shape) + 1 and constant.shape[0] == 1:
        constant = constant[0]
    aligned = zip(reversed(constant.shape), reversed(shape), strict=False)
    if constant.dim() > len(shape) or any(size not in (1, full) for size, full in aligned):
        raise InvalidModelError(
            f"node {label(node)!r}: a constant {list(constant.shape)} does not broadcast to "
            f"{list(shape)}"
        )
    return constant


def _batch_normalization(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options = _options(node, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1)
    _require(node, options["training_mode"] == 0, "training_mode")
    shape = builder.shape(node)
    gamma, beta, mean, variance = (
        _channels(node, builder.weight(node, position), shape) for position in (1, 2, 3, 4)
    )
    if not bool((variance + options["epsilon"] > 0).all()):
        raise InvalidModelError(f"node {label(node)!r}: variance + epsilon is not positive")
    factor = gamma / torch.sqrt(variance + options["epsilon"])
    magnitude = beta.abs() + (mean * factor).abs()
    builder.affine(node, Scaling(factor, shape), beta - mean * factor, magnitude)


def _relu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    builder.push(node, Activation(builder.source(node), builder.shape(node), RELU))


def _add(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    first, second = node.input
    if first in builder.index and second in builder.index:
        left, right = builder.index[first], builder.index[second]
        shape = builder.nodes[left].shape
        if builder.nodes[right].shape != shape:
            raise UnsupportedOperatorError(label(node), "Add of activations that broadcast")
        builder.push(node, Sum(left, right, shape))
        return
    _elementwise(builder, node, factor=1.0, shift=1.0)


def _sub(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    if node.input[0] in builder.index:
        _elementwise(builder, node, factor=1.0, shift=-1.0)
    else:
        _elementwise(builder, node, factor=-1.0, shift=1.0)


def _elementwise(builder: GraphBuilder, node: onnx.NodeProto, factor: float, shift: float) -> None:
    """``factor * activation + shift * constant``."""
    source, constant = _operands(builder, node)
    shape = builder.nodes[source].shape
    bias = shift * _fitting(node, constant, shape)
    builder.affine(node, Scaling(factor * _ONE, shape), bias, source=source)


def _operands(builder: GraphBuilder, node: onnx.NodeProto) -> tuple[int, Tensor]:
    """Index of the one activation and the one constant of a binary operator."""
    position = 0 if node.input[0] in builder.index else 1
    return builder.source(node, position), builder.weight(node, 1 - position)


def _mul(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    source, constant = _operands(builder, node)
    shape = builder.nodes[source].shape
    builder.affine(node, Scaling(_fitting(node, constant, shape), shape), source=source)


def _div(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    shape = builder.shape(node)
    divisor = _fitting(node, builder.weight(node, 1), shape)
    if bool((divisor == 0).any()):
        raise InvalidModelError(f"node {label(node)!r} divides by zero")
    builder.affine(node, Scaling(1.0 / divisor, shape))


def _average_pool(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options = _options(node, **_WINDOW, ceil_mode=0, count_include_pad=0, dilations=(1, 1))
    _require(node, options["ceil_mode"] == 0, "ceil_mode")
    kernel = tuple(options["kernel_shape"])
    geometry = _geometry(node, options, kernel)
    counted = bool(options["count_include_pad"]) or not any(geometry["pads"])
    _require(node, counted, "pads that are not counted")
    _mean(builder, node, kernel, geometry)


def _global_average_pool(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    _options(node)
    _mean(builder, node, builder.shape(node, rank=3)[1:], {})


def _mean(
    builder: GraphBuilder, node: onnx.NodeProto, kernel: Shape, geometry: dict[str, Any]
) -> None:
    """Mean over a window: a convolution of each channel by itself."""
    shape = builder.shape(node, rank=3)
    if len(kernel) != 2 or min(kernel) < 1 or math.prod(kernel) > math.prod(shape):
        raise InvalidModelError(f"node {label(node)!r}: no window {list(kernel)} in {list(shape)}")
    area = math.prod(kernel)
    weight = torch.full((shape[0], 1, *kernel), 1.0 / area, dtype=torch.float64)
    builder.affine(node, _convolution(node, weight, shape, shape[0], geometry))


def _flatten(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    shape = builder.shape(node)
    axis = _options(node, axis=1)["axis"]
    _require(node, axis in (1, -len(shape)), f"axis={axis}")
    builder.affine(node, Reshape(shape, (math.prod(shape),)))


def _reshape(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    allow_zero = _options(node, allowzero=0)["allowzero"]
    shape = builder.shape(node)
    target = [int(size) for size in builder.constant(node, 1).reshape(-1).tolist()]
    features = math.prod(shape)
    flat = len(target) == 2 and target[0] in (0, -1) and target[1] in (-1, features)
    _require(node, flat and target != [-1, -1] and not allow_zero, f"shape={target}")
    builder.affine(node, Reshape(shape, (features,)))


def _alias(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """Identity, or Dropout, which is the identity outside of training."""
    if node.op_type == "Dropout":
        _options(node, seed=0)
        training = builder.has(node, 2) and bool(builder.constant(node, 2).any())
        _require(node, not training, "training_mode")
    builder.index[node.output[0]] = builder.source(node)


def _constant(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    value = _options(node, value=None)["value"]
    _require(node, value is not None, "no tensor value")
    builder.constants[node.output[0]] = read_tensor(value, node.output[0])


def _identity(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """Identity of an activation or of a constant."""
    if node.input[0] in builder.constants:
        builder.constants[node.output[0]] = builder.constants[node.input[0]]
    else:
        _alias(builder, node)


Operator = Callable[[GraphBuilder, onnx.NodeProto], None]

OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_normalization,
    "Constant": _constant,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _alias,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "MatMul": _matmul,
    "Mul": _mul,
    "Relu": _relu,
    "Reshape": _reshape,
    "Sub": _sub,
}
