"""Multipliers of the quadratic envelope for one row and one radius: a good start, a few steps.

Everything here is float32 and decides only how tight a certificate is, never whether it holds.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.bounds.envelope import Multipliers, activation, inside, relax_row
from reaas_bounds.graph.activation import RELU, Clip, Entrywise, TwoSlope
from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.nodes import Graph
from reaas_bounds.graph.smooth import Smooth
from reaas_bounds.graph.window import Window, crop, embed

# Bisection steps for the curvature of one layer: elementwise work, far below one convolution.
HALVINGS = 10
# First step of every slope (most live in [0, 1]) and of the logarithm of every curvature; each
# step after it is shorter by DECAY. At small radii the start is better than any step away from it.
SLOPE_STEP = 0.08
CURVATURE_STEP = 0.1
DECAY = 0.8
# A curvature this much below the one for neurons at their kinks costs nothing; smaller ones would
# only make rounding larger.
CUT = 1e-4
# Keeps quotients of float32 numbers finite where a row is zero.
TINY = 1e-30


def search_multipliers(
    graph: Graph, values: list[Tensor], row: Tensor, reach: list[float], radius: float, steps: int
) -> Multipliers:
    """Multipliers that make the envelope of ``row`` [1, d] small at ``radius``; deterministic.

    Args:
        graph: the folded graph in float32.
        values: its nodes at the image, [1, *shape] each.
        row: the direction of the feature.
        reach: Q per node.
        radius: where the envelope shall be small.
        steps: projected steps against the sign of the gradient; the best point is returned.
    """
    start = start_multipliers(graph, values, row, reach, radius)
    slopes = {k: g.requires_grad_() for k, g in start.slopes.items()}
    logs = {k: v.log().requires_grad_() for k, v in start.curvatures.items()}
    best, least = start.detached(), math.inf
    for step in range(steps + 1 if slopes else 0):
        chosen = Multipliers(slopes, {k: v.exp() for k, v in logs.items()})
        value = _envelope_at(graph, values, row, reach, radius, chosen)
        if float(value.detach()) < least:
            best, least = chosen.detached(), float(value.detach())
        if step == steps:
            break
        gradients = torch.autograd.grad(value, [*slopes.values(), *logs.values()])
        signs = [DECAY**step * gradient.sign() for gradient in gradients]
        with torch.no_grad():
            for k, sign in zip(slopes, signs, strict=False):
                slopes[k].copy_(inside(graph, k, slopes[k] - SLOPE_STEP * sign))
            for k, sign in zip(logs, signs[len(slopes) :], strict=True):
                logs[k].sub_(CURVATURE_STEP * sign)
    return best


def _envelope_at(
    graph: Graph,
    values: list[Tensor],
    row: Tensor,
    reach: list[float],
    radius: float,
    chosen: Multipliers,
) -> Tensor:
    relaxed = relax_row(graph, values, row, chosen)
    total = relaxed.slope * radius + relaxed.offset
    for index, curvature in chosen.curvatures.items():
        budget = reach[activation(graph, index).source] * radius
        total = total + curvature * budget * budget
    return total


def start_multipliers(
    graph: Graph, values: list[Tensor], row: Tensor, reach: list[float], radius: float
) -> Multipliers:
    """The best multipliers of every layer by itself, from the last to the first."""
    slopes: dict[int, Tensor] = {}
    curvatures: dict[int, Tensor] = {}

    def through(index: int, p: Tensor, window: Window | None) -> Tensor:
        node = activation(graph, index)
        z, budget = crop(values[node.source], window), reach[node.source] * radius
        curvatures[index], g = _start(node.function, p, z, budget)
        slopes[index] = embed(g, window, node.shape)
        return p * g

    last = len(graph.nodes) - 1
    shaped = row.reshape(1, *graph.nodes[last].shape)
    pull_back(graph, last, shaped, None, through)
    return Multipliers(slopes, curvatures)


def _start(function: Entrywise, p: Tensor, z: Tensor, budget: float) -> tuple[Tensor, Tensor]:
    """Curvature and slopes of one layer for rows ``p`` at its output.

    A ReLU with p > 0 is best on the ramp that is 0 below ``-p / 4K``, 1 above ``p / 4K`` and
    linear between; one with p < 0 on its own line, where its beta is 0.
    """
    match function:
        case TwoSlope():
            rest = 1 - function.alpha
            rising = (rest * p).clamp_min(0)
            curvature = shared_curvature(rising, z, budget, torch.ones_like(rising))
            width = (rising / (4 * curvature)).clamp_min(TINY)
            return curvature, function.alpha + rest * (0.5 + z / (2 * width)).clamp(0, 1)
        case Clip():  # a ReLU at the nearer limit, turned over at the upper one
            v, sign = function.nearest(z)
            return _start(RELU, sign * p, v, budget)
        case Smooth():
            # The bound is p^2 spread^2 / 4K + K budget^2 with g in the middle.
            size = (p * function.spread).norm()
            curvature = (size / (2 * max(budget, TINY))).clamp_min(TINY)
            return curvature, torch.full_like(p, float(function.centre))
        case _:
            raise TypeError(f"no start for {function.name}")


def shared_curvature(
    width: Tensor, z: Tensor, budget: float, share: Tensor, cap: Tensor | None = None
) -> Tensor:
    """The K that minimises ``sum share^2 omega + K budget^2`` for rows of sizes ``width`` >= 0.

    On the ramps ``16K omega = (width - 4K|z|)_+^2``, so ``sum share^2 ((width / 4K)^2 - z^2)_+ =
    budget^2``; a ramp wider than ``cap`` counts ``(width / 4K)^2 (1 - |z| / cap)_+^2``. The left
    side falls with K: bisection between what all neurons and what no z would give.
    """
    size, weight = (share * width).norm() / 4, share.square()
    high = size / budget
    low = torch.minimum(size / torch.hypot((share * z).norm(), z.new_tensor(budget)), CUT * high)
    capped = None if cap is None else (1 - z.abs() / cap.clamp_min(TINY)).clamp_min(0).square()
    for _ in range(HALVINGS):
        middle = (low * high).sqrt()
        wide = width / (4 * middle).clamp_min(TINY)
        terms = (wide.square() - z.square()).clamp_min(0)
        if cap is not None and capped is not None:
            terms = torch.where(wide < cap, terms, wide.square() * capped)
        above = (weight * terms).sum() > budget * budget
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    found: Tensor = (low * high).sqrt().clamp_min(TINY)
    return found
