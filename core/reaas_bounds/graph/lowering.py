"""Lowers an ONNX file to the engine's own graph, operator by operator."""

from __future__ import annotations

from reaas_bounds.errors import UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder, Lowered
from reaas_bounds.graph.gating import fused_gates
from reaas_bounds.graph.gelu import fused_gelu
from reaas_bounds.graph.onnx_file import label, parse
from reaas_bounds.graph.operators import OPERATORS
from reaas_bounds.graph.values import Values


def lower(data: bytes) -> Lowered:
    """The graph that ONNX Runtime executes for ``data``, operator by operator, in float64.

    Raises:
        InvalidModelError: corrupt or hostile file, wrong input or output, weights not finite.
        UnsupportedOperatorError: an operator, or an option of one, that has no bound here.
    """
    proto = parse(data)
    builder = GraphBuilder(proto)
    nodes = fused_gelu(proto.node, Values(proto, proto.node))
    for node in fused_gates(nodes, Values(proto, nodes)):
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise UnsupportedOperatorError(label(node), node.op_type)
        operator(builder, node)
    return builder.finish(proto.output[0])
