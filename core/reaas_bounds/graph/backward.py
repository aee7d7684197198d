"""Rows pulled back from a node of the graph to the image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Sum
from reaas_bounds.graph.window import Window, embed, union, widen

# What an activation (node index) makes of rows [m, *window] at its output: rows at its input.
ThroughActivation = Callable[[int, Tensor, Window | None], Tensor]


def pull_back(
    graph: Graph, index: int, rows: Tensor, window: Window | None, through: ThroughActivation
) -> Tensor:
    """Rows [m, *window] of node ``index`` as rows [m, C, H, W] of the image."""
    found = pull_back_to_window(graph, index, rows, window, through)
    return embed(*found, graph.nodes[0].shape)


def pull_back_to_window(
    graph: Graph, index: int, rows: Tensor, window: Window | None, through: ThroughActivation
) -> tuple[Tensor, Window | None]:
    """The same in the window of the image outside of which they are zero; norms need no more."""
    pending: dict[int, tuple[Tensor, Window | None]] = {index: (rows, window)}

    def send(target: int, values: Tensor, place: Window | None) -> None:
        """Add to the rows that already wait at ``target`` (it is read more than once)."""
        if target in pending:
            other, where = pending[target]
            shape = graph.nodes[target].shape
            joint = union(place, where)
            values = widen(values, place, joint, shape) + widen(other, where, joint, shape)
            place = joint
        pending[target] = (values, place)

    for current in range(index, 0, -1):
        if current not in pending:
            continue
        values, place = pending.pop(current)
        node = graph.nodes[current]
        match node:
            case Affine():
                send(node.source, *node.linear.pull(values, place))
            case Activation():
                send(node.source, through(current, values, place), place)
            case Sum():
                send(node.left, values, place)
                send(node.right, values, place)
            case Input():
                raise AssertionError("the input is node 0")
    return pending[0]
