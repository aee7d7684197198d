"""Rows pulled back from a node of the graph to the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Sum, only_by_constants
from reaas_bounds.graph.patches import Patches, pull_patches, spread_out
from reaas_bounds.graph.window import Shape, Window, embed, union, widen
from reaas_bounds.interruption import checkpoint

# What an activation (node index) makes of rows [m, *window] at its output: rows at its input.
ThroughActivation = Callable[[int, Tensor, Window | None], Tensor]
# The same for rows that each have a patch of their own.
ThroughInPatches = Callable[[int, Tensor, Patches | None], Tensor]
Place = TypeVar("Place")
Placed = tuple[Tensor, Place]
InWindow = tuple[Tensor, Window | None]
InPatches = tuple[Tensor, Patches | None]


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

    def pull(linear: LinearMap, values: Tensor, place: Window | None) -> InWindow:
        return linear.pull(values, place)

    def add(a: InWindow, b: InWindow, shape: Shape) -> InWindow:
        joint = union(a[1], b[1])
        return widen(*a, joint, shape) + widen(*b, joint, shape), joint

    return _walk(graph, index, (rows, window), through, pull, add)


def pull_back_patches(
    graph: Graph, index: int, rows: Tensor, patches: Patches | None, through: ThroughInPatches
) -> tuple[Tensor, Patches | None]:
    """Rows [m, *shape or patch] of node ``index`` as rows of the image, in patches or all of it."""

    def add(a: InPatches, b: InPatches, shape: Shape) -> InPatches:
        return spread_out(*a) + spread_out(*b), None

    return _walk(graph, index, (rows, patches), through, pull_patches, add)


def _walk(
    graph: Graph,
    index: int,
    start: Placed[Place],
    through: Callable[[int, Tensor, Place], Tensor],
    pull: Callable[[LinearMap, Tensor, Place], Placed[Place]],
    add: Callable[[Placed[Place], Placed[Place], Shape], Placed[Place]],
) -> Placed[Place]:
    """Visit the nodes from ``index`` down to the image, each once."""
    pending: dict[int, Placed[Place]] = {index: start}

    def send(target: int, arriving: Placed[Place]) -> None:
        """Add to the rows that already wait at ``target`` (it is read more than once)."""
        if target in pending:
            arriving = add(arriving, pending[target], graph.nodes[target].shape)
        pending[target] = arriving

    for current in range(index, 0, -1):
        if current not in pending:
            continue
        checkpoint()
        values, place = pending.pop(current)
        node = graph.nodes[current]
        match node:
            case Affine():
                send(node.source, pull(node.linear, values, place))
            case Activation():
                send(node.source, (through(current, values, place), place))
            case Sum():
                send(node.left, (values, place))
                send(node.right, (values, place))
            case Joint():
                raise only_by_constants(node)
            case Input():
                raise AssertionError("the input is node 0")
    return pending[0]
