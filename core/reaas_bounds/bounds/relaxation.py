"""Lines around an entrywise function, and its slopes, near a point: what CROWN and local need.

Everything is written for the change ``sigma(z + t) - sigma(z)``: biases drop out, and so does the
rounding of their cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Interval
from reaas_bounds.graph.activation import Entrywise, TwoSlope
from reaas_bounds.graph.smooth import SLACK, Smooth


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Lines around the change of a function: ``a t + b <= sigma(z + t) - sigma(z) <= s t + c``.

    All [n, *shape]; b <= 0 <= c.
    """

    lower_slope: Tensor
    upper_slope: Tensor
    lower_offset: Tensor
    upper_offset: Tensor


def relax(function: Entrywise, at: Tensor, interval: Interval) -> Relaxation:
    """CROWN's lines for z = ``at`` and its change inside ``interval``; deterministic."""
    match function:
        case TwoSlope():
            return _relax_two_slope(function.alpha, _relax_relu(at, interval))
        case Smooth():
            return _relax_smooth(function, at, interval)
        case _:
            raise TypeError(f"no lines for {function.name}")


def increments(function: Entrywise, at: Tensor, interval: Interval) -> tuple[Tensor, Tensor]:
    """(a, b) with ``a <= (sigma(z + t) - sigma(z)) / t <= b`` for z = ``at``, t in ``interval``.

    A smaller interval never gives a wider range. Deterministic.
    """
    match function:
        case TwoSlope():
            low, high = _relu_increments(at, interval)
            ends = [function.alpha + (1 - function.alpha) * end for end in (low, high)]
            return torch.minimum(*ends), torch.maximum(*ends)
        case Smooth():  # the mean value theorem
            return function.slopes_on(at + interval.lower, at + interval.upper)
        case _:
            raise TypeError(f"no slopes for {function.name}")


def _relu_increments(at: Tensor, interval: Interval) -> tuple[Tensor, Tensor]:
    """Slopes from the point (z, relu(z)), whose one end is fixed, to points inside the interval."""
    below, above = (-interval.lower).clamp_min(0), interval.upper.clamp_min(0)
    tiny = torch.finfo(at.dtype).tiny
    low = torch.where(below > at, at / below.clamp_min(tiny), 1.0)
    high = torch.where(above > -at, (at + above) / above.clamp_min(tiny), 0.0)
    active = at > 0
    return torch.where(active, low, 0.0), torch.where(active, 1.0, high)


def _relax_relu(at: Tensor, interval: Interval) -> Relaxation:
    """Upper: the chord. Lower: slope 1 where the interval reaches further above zero than below,
    else 0 (adaptive, the smaller area).
    """
    low, high = at + interval.lower, at + interval.upper
    active, unstable = low >= 0, (low < 0) & (high > 0)
    value = torch.relu(at)
    chord = torch.where(unstable, high / (high - low).clamp_min(torch.finfo(at.dtype).tiny), 0.0)
    steep = unstable & (high > -low)
    return Relaxation(
        lower_slope=(active | steep).to(at.dtype),
        upper_slope=torch.where(active, 1.0, chord),
        lower_offset=torch.where(unstable, torch.where(steep, at, 0.0) - value, 0.0),
        upper_offset=torch.where(unstable, -chord * interval.lower - value, 0.0),
    )


def _relax_two_slope(alpha: Tensor, relu: Relaxation) -> Relaxation:
    """``alpha t`` plus ``1 - alpha`` times the change of a ReLU, which turns over if alpha > 1."""
    rest, over = 1 - alpha, alpha > 1
    lower_slope = torch.where(over, relu.upper_slope, relu.lower_slope)
    upper_slope = torch.where(over, relu.lower_slope, relu.upper_slope)
    return Relaxation(
        lower_slope=alpha + rest * lower_slope,
        upper_slope=alpha + rest * upper_slope,
        lower_offset=rest * torch.where(over, relu.upper_offset, relu.lower_offset),
        upper_offset=rest * torch.where(over, relu.lower_offset, relu.upper_offset),
    )


def _relax_smooth(function: Smooth, at: Tensor, interval: Interval) -> Relaxation:
    """Where the function is convex: chord above, tangent at the middle below; concave: turned over.

    Elsewhere two parallel lines: with the smallest slope a on the interval, ``sigma - a z`` rises,
    so its ends bound it; with the largest one it falls. The pair with the smaller gap is taken.
    """
    low, high = at + interval.lower, at + interval.upper
    ends = function.value(low), function.value(high)
    convex, concave = function.curvature_on(low, high)
    middle, width = (low + high) / 2, (high - low).clamp_min(torch.finfo(at.dtype).tiny)
    tangent, chord = function.derivative(middle), (ends[1] - ends[0]) / width
    slowest, fastest = function.slopes_on(low, high)
    parallel = torch.where(slowest + fastest < 2 * chord, fastest, slowest)
    lower_slope = torch.where(convex, tangent, torch.where(concave, chord, parallel))
    upper_slope = torch.where(concave, tangent, torch.where(convex, chord, parallel))
    # A line's height over the function is extreme at an end or, for a tangent, where it touches.
    value, slack = function.value(at), SLACK * (4 + low.abs() + high.abs())
    points = [(low, ends[0]), (high, ends[1]), (middle, function.value(middle))]
    below = [v - value - lower_slope * (z - at) for z, v in points]
    above = [v - value - upper_slope * (z - at) for z, v in points]
    return Relaxation(
        lower_slope=lower_slope,
        upper_slope=upper_slope,
        lower_offset=(torch.stack(below).amin(0) - slack).clamp_max(0.0),
        upper_offset=(torch.stack(above).amax(0) + slack).clamp_min(0.0),
    )
