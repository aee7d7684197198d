"""Convolution, matrix products and batch normalisation."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch
from torch import Tensor

from reaas_bounds.errors import InvalidModelError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.deconvolution import TransposedConvolution
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
from reaas_bounds.graph.sparse import Sparse, selection
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


def _conv_transpose(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, **WINDOW, group=1, output_padding=(0, 0), output_shape=())
    require(node, not given["output_shape"], "output_shape")
    plain = given["auto_pad"] in (b"NOTSET", b"VALID")
    require(node, plain, f"auto_pad={given['auto_pad'].decode(errors='replace')}")
    weight = builder.weight(node, 1)  # [i, o/g, kh, kw]
    shape = builder.shape(node, rank=3)
    groups, further = int(given["group"]), tuple(given["output_padding"])
    require(node, weight.dim() == 4, f"a kernel of rank {weight.dim()}")
    if groups < 1 or weight.shape[0] != shape[0] or shape[0] % groups:
        raise InvalidModelError(
            f"node {label(node)!r}: kernel {list(weight.shape)} in {groups} groups does not fit "
            f"an activation {list(shape)}"
        )
    window = geometry(node, given, tuple(weight.shape[2:]), shape[1:])
    fits = len(further) == 2 and all(
        0 <= more < step for more, step in zip(further, window.stride, strict=True)
    )
    require(node, fits, f"output_padding={list(further)} and strides={list(window.stride)}")
    planes = [
        (shape[1 + axis] - 1) * window.stride[axis]
        + window.spans[axis]
        + further[axis]
        - window.pads[axis]
        - window.pads[axis + 2]
        for axis in (0, 1)
    ]
    output = (groups * weight.shape[1], *planes)
    check_activation(output, node.output[0])
    # Its adjoint is the convolution with the same kernel from its outputs to its inputs.
    linear = TransposedConvolution(convolution(node, weight, output, groups, window))
    bias = torch.zeros(output[0], dtype=torch.float64)
    bias = builder.weight(node, 2) if builder.has(node, 2) else bias
    builder.affine(node, linear, channels(node, bias, output))


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


def by_matrix(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``MatMul`` of an activation by a constant matrix, along its last axis."""
    shape, weight = builder.shape(node), _factor(builder, node)
    if len(shape) == 1:
        builder.affine(node, _matrix(builder, node, weight.T))
        return
    if weight.shape[0] != shape[-1]:
        raise InvalidModelError(
            f"node {label(node)!r}: matrix {list(weight.shape)} for an activation {list(shape)}"
        )
    # A 1x1 convolution with the last axis as channels, between two transpositions.
    columns = math.prod(shape[:-1])
    places = np.arange(columns * shape[-1]).reshape(columns, -1).T
    first = Sparse.of(selection(places, places.size), shape, (shape[-1], columns, 1))
    turned = builder.linear(builder.source(node), first, label(node))
    mixed = Convolution(weight.T[:, :, None, None].contiguous(), first.output_shape)
    found = builder.linear(turned, mixed, label(node))
    back = np.arange(columns * weight.shape[1]).reshape(-1, columns).T
    output = (*shape[:-1], weight.shape[1])
    last = Sparse.of(selection(back, back.size), mixed.output_shape, output)
    builder.index[node.output[0]] = builder.linear(found, last, label(node))


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
            f"variance {float(variance.min()):.3g}; read are {LEAST_FACTOR**2:.3g} and 0 or more"
        )
    factor = gamma / torch.sqrt(variance + given["epsilon"])
    magnitude = beta.abs() + (mean * factor).abs()
    builder.affine(node, Scaling(factor, shape), beta - mean * factor, magnitude)


LINEAR: dict[str, Operator] = {
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
}
