"""Single directions of the feature by interval propagation and by CROWN."""

from __future__ import annotations

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import ABSOLUTE_MARGIN, RELATIVE_MARGIN, Centre, Interval
from reaas_bounds.bounds.crown import relaxed
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


def crown_row_bounds(centre: Centre, rows: Tensor, radius: float) -> Tensor:
    """The same by CROWN, never above ``ibp_rows``; [m], deterministic.

    Theorem: that of ``crown_bound``. The row is pulled back through the lines as it is, so that its
    coordinates are bounded together; it has no 2-norm to lose anything in.
    """
    graph, radii = centre.graph, rows.new_tensor([radius])
    last = len(graph.nodes) - 1
    shaped = rows.reshape(len(rows), *graph.nodes[last].shape)
    found = relaxed(centre, radii)
    lower, upper = row_bounds(graph, last, shaped, None, found.lines).at(radii)  # [m]
    largest = float(centre.scale(last).max())
    rounding = RELATIVE_MARGIN * (lower.abs() + upper.abs())
    bound = upper + rounding + ABSOLUTE_MARGIN * largest * rows.norm(dim=1)
    return torch.minimum(bound, ibp_rows(centre, rows, radius))
