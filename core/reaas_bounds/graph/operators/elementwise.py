"""Sums of activations, and arithmetic of an activation with a constant."""

from __future__ import annotations

import onnx
import torch
from torch import Tensor

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maps import Scaling
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.integers import whole_numbers
from reaas_bounds.graph.operators.lengths import divided
from reaas_bounds.graph.operators.options import Operator, options
from reaas_bounds.graph.signatures import LEAST_FACTOR
from reaas_bounds.graph.window import Shape

_ONE = torch.ones((), dtype=torch.float64)


def fitting(node: onnx.NodeProto, constant: Tensor, shape: Shape) -> Tensor:
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


def _add(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    left, right = (builder.index.get(name) for name in node.input)
    if left is None or right is None:
        _shifted(builder, node, factor=1.0, shift=1.0)
        return
    if builder.nodes[right].shape != builder.nodes[left].shape:
        raise UnsupportedOperatorError(label(node), "Add of activations that broadcast")
    builder.index[node.output[0]] = builder.total(left, right, node.output[0])


def _sub(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    left, right = (builder.index.get(name) for name in node.input)
    if left is not None and right is not None:
        shape = builder.nodes[right].shape
        if builder.nodes[left].shape != shape:
            raise UnsupportedOperatorError(label(node), "Sub of activations that broadcast")
        turned = builder.linear(right, Scaling(-_ONE, shape), node.output[0])
        builder.index[node.output[0]] = builder.total(left, turned, node.output[0])
        return
    minuend = node.input[0] in builder.index
    _shifted(builder, node, factor=1.0 if minuend else -1.0, shift=-1.0 if minuend else 1.0)


def _shifted(builder: GraphBuilder, node: onnx.NodeProto, factor: float, shift: float) -> None:
    """``factor * activation + shift * constant``."""
    source, constant = _operands(builder, node)
    shape = builder.nodes[source].shape
    bias = shift * fitting(node, constant, shape)
    builder.affine(node, Scaling(factor * _ONE, shape), bias, source=source)


def _operands(builder: GraphBuilder, node: onnx.NodeProto) -> tuple[int, Tensor]:
    """Index of the one activation and the one constant of a binary operator."""
    position = 0 if node.input[0] in builder.index else 1
    return builder.source(node, position), builder.weight(node, 1 - position)


def scaled(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``Mul`` of an activation by a constant."""
    source, constant = _operands(builder, node)
    shape = builder.nodes[source].shape
    builder.affine(node, Scaling(fitting(node, constant, shape), shape), source=source)


def _div(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    if node.input[1] in builder.lengths:
        divided(builder, node)
        return
    shape = builder.shape(node)
    divisor = fitting(node, builder.weight(node, 1), shape)
    smallest = float(divisor.abs().min())
    if smallest < LEAST_FACTOR:
        by = "zero" if smallest == 0 else f"{smallest:.3g}"
        raise InvalidModelError(
            f"node {label(node)!r} divides by {by}; at least {LEAST_FACTOR:.3g} is read"
        )
    builder.affine(node, Scaling(1.0 / divisor, shape))


def _neg(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    builder.affine(node, Scaling(-_ONE, builder.shape(node)))


ELEMENTWISE: dict[str, Operator] = {
    "Add": whole_numbers(_add),
    "Div": whole_numbers(_div),
    "Neg": _neg,
    "Sub": whole_numbers(_sub),
}
