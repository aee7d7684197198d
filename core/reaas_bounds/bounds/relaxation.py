"""Lines around an entrywise function near a point: what CROWN needs.

Everything is written for the change ``sigma(z + t) - sigma(z)``: biases drop out, and so does the
rounding of their cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Interval
from reaas_bounds.graph.activation import Clip, Entrywise, TwoSlope
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
        case Clip():
            return _relax_clip(function, at, interval)
        case Smooth():
            return _relax_smooth(function, at, interval)
        case _:
            raise TypeError(f"no lines for {function.name}")


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


def _relax_clip(function: Clip, at: Tensor, interval: Interval) -> Relaxation:
    """Above: the line from the lower end to the upper limit, or to the other end if that is nearer;
    the limit itself where that is lower in the middle. Below: the same turned over.
    """
    low, high = at + interval.lower, at + interval.upper
    ends, middle = (function.value(low), function.value(high)), (low + high) / 2
    rise, tiny = ends[1] - ends[0], torch.finfo(at.dtype).tiny
    upper_slope = rise / (high.clamp_max(function.most) - low).clamp_min(tiny)
    lower_slope = rise / (high - low.clamp_min(function.least)).clamp_min(tiny)
    over = (high > function.most) & (ends[0] + upper_slope * (middle - low) > function.most)
    under = (low < function.least) & (ends[1] - lower_slope * (high - middle) < function.least)
    upper_slope, lower_slope = upper_slope.masked_fill(over, 0), lower_slope.masked_fill(under, 0)
    # A line's height over straight pieces is extreme where they meet.
    kinks = [limit - at for limit in (function.least, function.most)]
    points = [interval.lower, interval.upper]
    points += [torch.minimum(torch.maximum(kink, points[0]), points[1]) for kink in kinks]
    return Relaxation(
        lower_slope=lower_slope,
        upper_slope=upper_slope,
        lower_offset=torch.stack([function.change(at, t) - lower_slope * t for t in points])
        .amin(0)
        .clamp_max(0.0),
        upper_offset=torch.stack([function.change(at, t) - upper_slope * t for t in points])
        .amax(0)
        .clamp_min(0.0),
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
