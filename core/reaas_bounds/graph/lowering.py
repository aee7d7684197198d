"""Lowers an ONNX file to the engine's own graph, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from reaas_bounds.errors import BoundsError, InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder, Lowered
from reaas_bounds.graph.gating import fused_gates
from reaas_bounds.graph.gelu import fused_gelu
from reaas_bounds.graph.nodes import Graph
from reaas_bounds.graph.onnx_file import label, parse
from reaas_bounds.graph.operators import OPERATORS
from reaas_bounds.graph.signatures import check_node, opset_of
from reaas_bounds.graph.values import Values


@dataclass(frozen=True, eq=False)
class Traced:
    """Every value of an ONNX file that the engine has: its name, and the node of ``graph`` it is.

    ``graph`` holds what the file's output does not need as well. ``units``: vectors that are
    divided by their length, by name, and the node that they are of.
    """

    graph: Graph
    index: dict[str, int]
    units: dict[str, int]


def lower(data: bytes) -> Lowered:
    """The graph that ONNX Runtime executes for ``data``, operator by operator, in float64.

    Raises:
        InvalidModelError: corrupt or hostile file, wrong input or output, weights not finite.
        UnsupportedOperatorError: an operator, or an option of one, that has no bound here.
    """
    proto, builder = _built(data)
    return builder.finish(proto.output[0])


def traced(data: bytes) -> Traced:
    """The values in between of a file that ``lower`` takes: for finding where two engines part."""
    _, builder = _built(data)
    units = {name: unit.source for name, unit in builder.units.items()}
    return Traced(Graph(tuple(builder.nodes)), dict(builder.index), units)


def _built(data: bytes) -> tuple[onnx.GraphProto, GraphBuilder]:
    try:
        return _walked(data)
    except UnicodeDecodeError as error:
        raise InvalidModelError("the file holds a name or text that is not UTF-8") from error


def _walked(data: bytes) -> tuple[onnx.GraphProto, GraphBuilder]:
    model = parse(data)
    opset = opset_of(model)
    for node in model.graph.node:
        check_node(node, opset)
    builder = GraphBuilder(model.graph, opset)
    nodes = fused_gelu(model.graph.node, Values(model.graph, model.graph.node))
    for node in fused_gates(nodes, Values(model.graph, nodes)):
        _read(builder, node)
    return model.graph, builder


def _read(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    operator = OPERATORS.get(node.op_type)
    if operator is None:
        raise UnsupportedOperatorError(label(node), node.op_type)
    try:
        operator(builder, node)
    except BoundsError:
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        # What fits no rule that an operator has is refused like what breaks one.
        raise InvalidModelError(
            f"node {label(node)!r} cannot be read as {node.op_type}: {type(e).__name__}: "
            f"{str(e)[:200]}"
        ) from e
