"""Folds a graph as the file describes it into the form that bounds work on.

Consecutive affine maps become one, so that normalisation and rescaling belong to the first layer:
an L2 ball of the client's pixels is then met by one map with exact rows. Kept apart, interval
bounds would lose the ball's shape at the normalisation already.
"""

from __future__ import annotations

from dataclasses import dataclass

from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Node, Sum, sources
from reaas_bounds.graph.simplify import simplified


@dataclass(frozen=True, eq=False)
class Folded:
    """A folded graph, and for nodes of the original that survive in it their new index."""

    graph: Graph
    position: dict[int, int]


def fold(graph: Graph) -> Folded:
    """The same function with every chain of affine maps merged into one."""
    consumers = graph.consumers
    nodes: list[Node] = []
    position: dict[int, int] = {}  # index in graph -> index in nodes
    for index, node in enumerate(graph.nodes):
        folded = relocated(node, position)
        if isinstance(folded, Affine):
            before = nodes[folded.source]
            alone = len(consumers[sources(node)[0]]) == 1
            folded = _merged(before, folded) if isinstance(before, Affine) and alone else folded
        nodes.append(folded)
        position[index] = len(nodes) - 1
    rank = _kept(nodes)
    return Folded(pruned(nodes), {k: rank[at] for k, at in position.items() if at in rank})


def pruned(nodes: list[Node]) -> Graph:
    """The graph of those of ``nodes`` that the last one depends on."""
    rank = _kept(nodes)
    return Graph(tuple(relocated(nodes[old], rank) for old in rank))


def relocated(node: Node, position: dict[int, int]) -> Node:
    """``node`` reading from the renumbered sources."""
    match node:
        case Input():
            return node
        case Affine():
            return Affine(position[node.source], node.linear, node.bias, node.bias_magnitude)
        case Activation():
            return Activation(position[node.source], node.shape, node.function)
        case Sum():
            return Sum(position[node.left], position[node.right], node.shape, node.disjoint)
        case Joint():
            return Joint(tuple(position[k] for k in node.inputs), node.shape, node.function)


def _merged(first: Affine, second: Affine) -> Affine:
    """``second`` after ``first`` as one affine map."""
    factors = first.linear.parts + second.linear.parts
    start = first.bias.expand(first.shape).unsqueeze(0)  # [1, *shape]
    bias = second.linear.apply(start)[0] + second.bias  # [*output]
    linear = simplified(factors, at_input=first.source == 0)
    return Affine(first.source, linear, bias, bias.abs())


def _kept(nodes: list[Node]) -> dict[int, int]:
    """New index of the input and of every node that the last one depends on."""
    needed = {0, len(nodes) - 1}
    for index in range(len(nodes) - 1, -1, -1):
        if index in needed:
            needed.update(sources(nodes[index]))
    return {old: new for new, old in enumerate(sorted(needed))}
