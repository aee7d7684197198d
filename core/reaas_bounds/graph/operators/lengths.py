"""L2 normalisation of the feature: a vector divided by its length, which is at least a constant."""

from __future__ import annotations

from typing import NoReturn

import onnx

from reaas_bounds.errors import UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder, Length
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.integers import BATCH
from reaas_bounds.graph.operators.options import Operator, axes_of, options, require


def _length(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``ReduceL2`` of a vector; its value may only end in the division of that vector."""
    given = options(node, axes=(), keepdims=1, noop_with_empty_axes=0)
    shape = builder.shape(node)
    vector = len(shape) == 1 and axes_of(builder, node, given["axes"], 1) == (0,)
    require(node, vector and given["keepdims"] == 1, "other axes than the one of a vector")
    builder.lengths[node.output[0]] = Length(builder.source(node), 0.0)


def _expanded(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``Expand`` of a length to the shape of its vector."""
    options(node)
    length = builder.lengths.get(node.input[0])
    require(node, length is not None, "anything but the length of a vector")
    assert length is not None
    wanted = list(builder.nodes[length.source].shape)
    stated = builder.entries(node, 1)
    # An axis that is to be 1 stays as long as it is.
    require(node, stated in ([BATCH, *wanted], [1, *wanted]), f"shape {stated}")
    builder.lengths[node.output[0]] = length


def _unbounded(builder: GraphBuilder, node: onnx.NodeProto) -> NoReturn:
    raise UnsupportedOperatorError(
        label(node),
        f"{node.op_type} (it moves features arbitrarily fast near zero: divide by the length with "
        "a lower limit, as torch.nn.functional.normalize does, at the end of the encoder)",
    )


def at_least(builder: GraphBuilder, node: onnx.NodeProto, least: float, most: float) -> None:
    """``Clip`` of a length from below."""
    length = builder.lengths[node.input[0]]
    require(node, least > 0 and most == float("inf"), f"a length, from {least} to {most}")
    builder.lengths[node.output[0]] = Length(length.source, max(least, length.least))


def divided(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``Div`` by a length: the unit vector, which nothing may read."""
    length = builder.lengths[node.input[1]]
    require(node, builder.index.get(node.input[0]) == length.source, "the length of another vector")
    if length.least == 0.0:
        _unbounded(builder, node)
    builder.units[node.output[0]] = length


LENGTHS: dict[str, Operator] = {
    "Expand": _expanded,
    "LpNormalization": _unbounded,
    "ReduceL2": _length,
}
