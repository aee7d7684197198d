"""Single directions of the feature by interval propagation and by CROWN."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import ABSOLUTE_MARGIN, RELATIVE_MARGIN, Centre, Interval
from reaas_bounds.bounds.crown import relaxed
from reaas_bounds.bounds.crown_rows import RowBounds, row_bounds
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
class CrownRows:
    """Bounds of m rows of the feature of one image by CROWN, made for one radius.

    ``intervals`` [m]: by interval propagation at that radius; ``scale`` [m]: what is added for the
    rounding of the centre.
    """

    rows: RowBounds
    intervals: Tensor
    scale: Tensor

    def at(self, radius: Tensor) -> Tensor:
        """Per row [m], for ``radius`` [1], at most the one that they were made for."""
        lower, upper = self.rows.at(radius)
        bound = upper + RELATIVE_MARGIN * (lower.abs() + upper.abs()) + self.scale
        return torch.minimum(bound, self.intervals)


def crown_rows(centre: Centre, rows: Tensor, radius: float) -> CrownRows:
    """Per row c of ``rows`` [m, d] a bound by CROWN, never above ``ibp_rows``; deterministic.

    Theorem: that of ``crown_bound``. The row is pulled back through the lines as it is, so that its
    coordinates are bounded together; it has no 2-norm to lose anything in.
    """
    graph, last = centre.graph, len(centre.graph.nodes) - 1
    shaped = rows.reshape(len(rows), *graph.nodes[last].shape)
    found = relaxed(centre, rows.new_tensor([radius]))
    bounds = row_bounds(graph, last, shaped, None, found.lines)
    scale = ABSOLUTE_MARGIN * float(centre.scale(last).max()) * rows.norm(dim=1)
    return CrownRows(bounds, ibp_rows(centre, rows, radius), scale)
