"""Entrywise activations."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch

from reaas_bounds.errors import InvalidModelError
from reaas_bounds.graph.activation import RELU, Clip, Entrywise, TwoSlope
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.lengths import at_least
from reaas_bounds.graph.operators.options import Operator, options, require
from reaas_bounds.graph.smooth import GELU, SIGMOID, TANH, TANH_GELU

_ABS = TwoSlope(-torch.ones((), dtype=torch.float64), "Abs")


def _plain(function: Entrywise) -> Operator:
    """The operator of a function without options."""

    def lower(builder: GraphBuilder, node: onnx.NodeProto) -> None:
        options(node)
        builder.activation(node, function)

    return lower


def _leaky_relu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    alpha = float(options(node, alpha=0.01)["alpha"])
    slope = torch.tensor(alpha, dtype=torch.float64)
    if not bool(slope.isfinite()):
        raise InvalidModelError(f"node {label(node)!r}: alpha is {alpha}")
    builder.activation(node, TwoSlope(slope, "LeakyRelu"))


def _prelu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    slope, shape = builder.weight(node, 1), builder.shape(node)
    require(node, len(shape) in (1, 3), f"an activation {list(shape)}")
    # With more axes than the activation has, the result has them too.
    require(node, slope.dim() <= len(shape) + 1, f"slopes {list(slope.shape)}")
    while slope.dim() > len(shape) and slope.shape[0] == 1:
        slope = slope[0]
    per_channel = tuple(slope.shape) == (shape[0], *(1 for _ in shape[1:]))
    fits = slope.numel() == 1 or per_channel
    require(node, fits, f"slopes {list(slope.shape)}; one number, or one for each channel")
    alpha = slope.reshape(()) if slope.numel() == 1 else slope.reshape(-1, *(1 for _ in shape[1:]))
    builder.activation(node, TwoSlope(alpha, "PRelu"))


def _clip(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    limits = [-math.inf, math.inf]
    for place in (0, 1):
        if builder.has(node, place + 1):
            stated = builder.constant(node, place + 1)
            number = stated.dtype == np.float32 and stated.size == 1
            require(node, number, f"limits {stated.dtype} {list(stated.shape)}")
            limits[place] = float(stated.reshape(()))
    if node.input[0] in builder.lengths:
        at_least(builder, node, *limits)
        return
    if limits[0] >= limits[1]:
        raise InvalidModelError(f"node {label(node)!r}: Clip from {limits[0]} to {limits[1]}")
    if math.isinf(limits[0]) and math.isinf(limits[1]):
        builder.index[node.output[0]] = builder.source(node)
    else:
        builder.activation(node, Clip(*limits))


def _gelu(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    approximate = options(node, approximate=b"none")["approximate"]
    known = approximate in (b"none", b"tanh")
    require(node, known, f"approximate={approximate.decode(errors='replace')}")
    builder.activation(node, GELU if approximate == b"none" else TANH_GELU)


ACTIVATIONS: dict[str, Operator] = {
    "Abs": _plain(_ABS),
    "Clip": _clip,
    "Gelu": _gelu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Relu": _plain(RELU),
    "Sigmoid": _plain(SIGMOID),
    "Tanh": _plain(TANH),
}
