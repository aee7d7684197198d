"""Single directions of the feature by interval propagation and by CROWN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import ABSOLUTE_MARGIN, RELATIVE_MARGIN, Centre, Interval
from reaas_bounds.bounds.crown import Relaxed, relaxed
from reaas_bounds.bounds.crown_rows import row_bounds
from reaas_bounds.bounds.ibp import propagate
from reaas_bounds.graph.nodes import Affine, Input
from reaas_bounds.graph.window import crop


def ibp_rows(centre: Centre, rows: Tensor, radius: float) -> Tensor:
    """Per row c of ``rows`` [m, d] a bound of ``c . (f(x + d) - f(x))`` over ``||d||_2 <= r``, [m].

    Deterministic. Theorem: every activation's change lies in its interval (``ibp_bound``). The last
    affine map and the row are one row p, so the bound is ``sum_j max(p_j l_j, p_j u_j)`` over the
    intervals that the map reads; where it reads the image, ``||p|| r``. ``centre`` is of one image.
    """
    graph, radii = centre.graph, rows.new_tensor([radius])
    last = len(graph.nodes) - 1
    node = graph.nodes[last]
    values, sizes, source, window = rows.reshape(len(rows), *node.shape), rows.abs(), last, None
    if isinstance(node, Affine):
        source, absolute = node.source, node.linear.absolute()
        sizes, _ = absolute.pull(values.abs(), None)  # [m, *window]: |c| |W|
        values, window = node.linear.pull(values, None)
    flat, whole = values.flatten(1), sizes.flatten(1)  # [m, size]
    if isinstance(graph.nodes[source], Input):
        lengths: Tensor = flat.norm(dim=1) + RELATIVE_MARGIN * whole.norm(dim=1)
        return lengths * radius
    intervals: list[Interval] = []
    for index in range(source + 1):
        intervals.append(propagate(centre, index, intervals, radii))
    ends = intervals[source].lower, intervals[source].upper
    lower, upper = (crop(end, window).flatten(1) for end in ends)  # [1, size]
    farthest = torch.maximum(lower.abs(), upper.abs()) * (1 + RELATIVE_MARGIN)
    moved = torch.maximum(flat * lower, flat * upper).sum(1)
    rounding = RELATIVE_MARGIN * (whole * farthest).sum(1)
    largest = float(centre.scale(last).max())
    bound: Tensor = moved + rounding + ABSOLUTE_MARGIN * largest * rows.norm(dim=1)
    return bound


@dataclass(frozen=True, eq=False)
class RowMoves:
    """CROWN's bounds of m rows of one image, made for one radius: they hold for every smaller one.

    All [m]: ``offset + slope r + slack``, and ``cap``, what intervals say at that radius.
    """

    offset: Tensor
    slope: Tensor
    slack: Tensor
    cap: Tensor

    def at(self, radius: float) -> Tensor:
        """Bounds [m] within ``radius``, at most the one that they were made for."""
        moved = (self.offset + self.slope * radius) * (1 + 2 * RELATIVE_MARGIN)
        return torch.minimum(moved + self.slack, self.cap)


def crown_rows(
    centre: Centre, rows: Tensor, radius: float, known: Relaxed | None = None
) -> RowMoves:
    """Bounds of ``c . (f(x + d) - f(x))`` for rows c of ``rows`` [m, d], made for ``radius``.

    Deterministic. Theorem: that of ``crown_bound``. The row is pulled back through the lines as it
    is, so that its coordinates are bounded together; it has no 2-norm to lose anything in.

    Args:
        known: hidden neurons within ``radius`` (``relaxed``), or what is assumed of them.
    """
    last = len(centre.graph.nodes) - 1
    shaped = rows.reshape(len(rows), *centre.graph.nodes[last].shape)
    known = known or relaxed(centre, rows.new_tensor([radius]))
    found = row_bounds(centre.graph, last, shaped, None, known.lines)
    slack = ABSOLUTE_MARGIN * float(centre.scale(last).max()) * rows.norm(dim=1)
    return RowMoves(found.highest, found.above, slack, ibp_rows(centre, rows, radius))


def crown_row_bounds(centre: Centre, rows: Tensor, radius: float) -> Tensor:
    """``crown_rows`` at ``radius``: never above ``ibp_rows``; [m]."""
    return crown_rows(centre, rows, radius).at(radius)
