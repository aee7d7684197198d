"""Convolution, matrix products and batch normalisation."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor

from reaas_bounds.errors import InvalidModelError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maps import Convolution, Dense, Scaling
from reaas_bounds.graph.onnx_file import check_activation, label
from reaas_bounds.graph.operators.elementwise import fitting
from reaas_bounds.graph.operators.options import (
    WINDOW,
    Geometry,
    Operator,
    geometry,
    options,
    require,
)
from reaas_bounds.graph.signatures import LARGEST_FACTOR, LEAST_FACTOR
from reaas_bounds.graph.window import Shape


def _conv(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, **WINDOW, group=1)
    weight = builder.weight(node, 1)  # [o, i/g, kh, kw]
    shape = builder.shape(node, rank=3)
    groups = int(given["group"])
    require(node, weight.dim() == 4, f"a kernel of rank {weight.dim()}")
    fits = groups >= 1 and weight.shape[0] % groups == 0 and weight.shape[1] * groups == shape[0]
    if not fits:
        raise InvalidModelError(
            f"node {label(node)!r}: kernel {list(weight.shape)} in {groups} groups does not fit "
            f"an activation {list(shape)}"
        )
    window = geometry(node, given, tuple(weight.shape[2:]), shape[1:])
    linear = convolution(node, weight, shape, groups, window)
    bias = (
        builder.weight(node, 2)
        if builder.has(node, 2)
        else torch.zeros(weight.shape[0], dtype=torch.float64)
    )
    builder.affine(node, linear, channels(node, bias, linear.output_shape))


def convolution(
    node: onnx.NodeProto, weight: Tensor, shape: Shape, groups: int, window: Geometry
) -> Convolution:
    """The convolution, unless its padded input or dilated kernel is too large to work with."""
    top, left, bottom, right = window.pads
    padded = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
    check_activation(padded, f"padded input of {label(node)}")
    check_activation((*weight.shape[:2], *window.spans), f"dilated kernel of {label(node)}")
    return Convolution(weight, shape, window.stride, window.pads, window.dilation, groups)


def channels(node: onnx.NodeProto, vector: Tensor, shape: Shape) -> Tensor:
    """One number per channel as [C, 1, 1] (or [d] for a vector activation)."""
    if vector.dim() != 1 or vector.numel() != shape[0]:
        raise InvalidModelError(
            f"node {label(node)!r}: {list(vector.shape)} parameters for {shape[0]} channels"
        )
    return vector.reshape(-1, *(1 for _ in shape[1:]))


def _gemm(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    require(node, given["transA"] == 0, "transA")
    for name in ("alpha", "beta"):
        size = abs(given[name])
        sane = size == 0 or LEAST_FACTOR <= size <= LARGEST_FACTOR
        require(node, sane, f"{name}={given[name]}")
    weight = _factor(builder, node)
    weight = weight if given["transB"] else weight.T  # [o, i]
    linear = _matrix(builder, node, given["alpha"] * weight)
    if not builder.has(node, 2):
        builder.affine(node, linear)
        return
    bias = given["beta"] * builder.weight(node, 2)
    builder.affine(node, linear, fitting(node, bias, linear.output_shape))


def _matmul(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    builder.affine(node, _matrix(builder, node, _factor(builder, node).T))


def _factor(builder: GraphBuilder, node: onnx.NodeProto) -> Tensor:
    weight = builder.weight(node, 1)
    require(node, weight.dim() == 2, f"a constant {list(weight.shape)} that is no matrix")
    return weight


def _matrix(builder: GraphBuilder, node: onnx.NodeProto, weight: Tensor) -> Dense:
    shape = builder.shape(node, rank=1)
    if weight.shape[1] != shape[0]:
        raise InvalidModelError(
            f"node {label(node)!r}: matrix {list(weight.shape)} for a vector {list(shape)}"
        )
    return Dense(weight.contiguous(), shape, (weight.shape[0],))


def _batch_normalization(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1)
    require(node, given["training_mode"] == 0, "training_mode")
    require(node, given["spatial"] == 1, "spatial=0")
    shape = builder.shape(node)
    gamma, beta, mean, variance = (
        channels(node, builder.weight(node, position), shape) for position in (1, 2, 3, 4)
    )
    spread = variance + given["epsilon"]
    # A negative variance could cancel epsilon: float32 has no digits of the rest.
    if not bool(((spread >= LEAST_FACTOR**2) & (variance >= 0)).all()):
        raise InvalidModelError(
            f"node {label(node)!r}: variance + epsilon is {float(spread.min()):.3g} in a channel, "
            f"the variance {float(variance.min()):.3g}; at least {LEAST_FACTOR**2:.3g} and 0 are read"
        )
    factor = gamma / torch.sqrt(variance + given["epsilon"])
    magnitude = beta.abs() + (mean * factor).abs()
    builder.affine(node, Scaling(factor, shape), beta - mean * factor, magnitude)


LINEAR: dict[str, Operator] = {
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
