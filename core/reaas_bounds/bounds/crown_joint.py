"""CROWN with one slope above and below: the feature's coordinates are bounded together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import RELATIVE_MARGIN, Centre, Interval
from reaas_bounds.bounds.crown import CrownBound, relaxed
from reaas_bounds.bounds.crown_rows import RowBounds
from reaas_bounds.bounds.relaxation import Relaxation, relax
from reaas_bounds.graph.activation import Entrywise, TwoSlope
from reaas_bounds.graph.backward import pull_back_patches
from reaas_bounds.graph.nodes import Activation, Graph
from reaas_bounds.graph.patches import Patches, spread_out, unit_patches
from reaas_bounds.graph.rows import group_size
from reaas_bounds.norms.matrix import matrix_norm


@dataclass(frozen=True, eq=False)
class JointBound:
    """``||f(x + d) - f(x)|| <= stretch r + rest``, or what single coordinates say, if less.

    Holds for every radius up to the one that it was made for.
    """

    stretch: float
    rest: Tensor
    single: CrownBound

    def at(self, radius: Tensor) -> Tensor:
        """``B(r)`` [1] for ``radius`` [1]."""
        joint = (self.stretch * radius + self.rest) * (1 + RELATIVE_MARGIN)
        return torch.minimum(joint, self.single.at(radius))


def crown_joint_bound(centre: Centre, radii: Tensor) -> Tensor:
    """``B(r) >= max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``, [n]; deterministic.

    Theorem: with parallel lines above and below every activation, ``f(x + d) - f(x) = A d + e``
    with each e_i in an interval that contains 0, so its norm is at most ``||A||_2 r +
    sqrt(sum_i max(e_i^2))``: the spectral norm (proved by Cholesky) where single coordinates pay
    the Frobenius norm. The smaller of both bounds, made from the same rows. Intervals of hidden
    neurons are CROWN's (``relaxed``). Float64, widened by the margins of ``centre``.
    """
    bounds = [radii.new_zeros(0)]
    for image, radius in enumerate(torch.split(radii, 1)):
        single = centre.select(torch.tensor([image], device=radii.device))
        bounds.append(crown_joint(single, radius).at(radius))
    return torch.cat(bounds)


def crown_joint(centre: Centre, radius: Tensor) -> JointBound:
    """The bound of the one image of ``centre``, made for ``radius`` [1]."""
    graph, intervals = centre.graph, relaxed(centre, radius).intervals
    lines = {
        k: parallel(node.function, centre.values[node.source], intervals[node.source])
        for k, node in enumerate(graph.nodes)
        if isinstance(node, Activation)
    }
    matrix, lowest, highest = _rows(graph, lines, centre.values[-1])
    scale = centre.scale(len(graph.nodes) - 1)
    norms = matrix.norm(dim=1)
    single = CrownBound(RowBounds(lowest, norms, highest, norms), intervals[-1], scale)
    farthest = Interval(lowest[None], highest[None]).widened(scale).norm()
    stretch = matrix_norm(matrix.double().cpu(), error=RELATIVE_MARGIN * float(norms.norm()))
    return JointBound(stretch, farthest, single)


def parallel(function: Entrywise, at: Tensor, interval: Interval) -> Relaxation:
    """Two lines of one slope around the change of ``function``; with two slopes the chord's."""
    found = relax(function, at, interval)
    match function:
        case TwoSlope():
            # Convex above alpha < 1, concave else: one of the two lines is the chord, and the
            # parallel one touches at the kink.
            convex = (function.alpha <= 1).expand_as(at)
            slope = torch.where(convex, found.upper_slope, found.lower_slope)
            bends = function.bends(at + interval.lower, at + interval.upper)
            kink = torch.where(bends, slope * at - function.value(at), 0.0)
            low = torch.where(convex, kink, found.lower_offset)
            high = torch.where(convex, found.upper_offset, kink)
        case _:
            slope = found.lower_slope
            turned = (found.upper_slope - slope) * torch.stack([interval.lower, interval.upper])
            low, high = found.lower_offset, found.upper_offset + turned.amax(0)
    return Relaxation(slope, slope, low, high)


def _rows(
    graph: Graph, lines: dict[int, Relaxation], feature: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows A [d, C H W] of all coordinates, and the ends [d] of the interval of e."""
    last, shape = len(graph.nodes) - 1, tuple(feature.shape[1:])
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    neurons = torch.arange(feature.numel(), device=feature.device)
    for group in torch.split(neurons, group_size(graph)):
        ends = [feature.new_zeros(len(group)) for _ in range(2)]

        def through(
            current: int, values: Tensor, place: Patches | None, ends: list[Tensor] = ends
        ) -> Tensor:
            met, full = lines[current], spread_out(values, place)
            positive, negative = full.clamp_min(0.0).flatten(1), full.clamp_max(0.0).flatten(1)
            low, high = (part.flatten() for part in (met.lower_offset, met.upper_offset))
            ends[0] += positive @ low + negative @ high
            ends[1] += positive @ high + negative @ low
            slope = met.lower_slope
            if place is None:
                return values * slope
            return (values.movedim(0, -1) * place.gather(slope[0])).movedim(-1, 0)

        rows, patches = unit_patches(group, shape, feature.dtype)
        image = spread_out(*pull_back_patches(graph, last, rows, patches, through))
        parts.append((image.flatten(1), ends[0], ends[1]))
    matrix, lowest, highest = (torch.cat(found) for found in zip(*parts, strict=True))
    return matrix, lowest, highest
