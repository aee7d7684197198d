"""CROWN (Zhang et al. 2018) through a classifier, over an L2 ball."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._ibp import Interval, first_layer_interval, next_interval, widen
from ._margins import MarginProblem, magnitudes, rounding

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ReluRelaxation:
    """Lines around a ReLU on `[l, u]`, `[n, h]`: `lower v <= relu(v) <= upper v + intercept`."""

    lower: Float
    upper: Float
    intercept: Float


def relax_relu(interval: Interval) -> ReluRelaxation:
    """The tightest upper line and the adaptive lower line (slope 1 if `u > -l`, else 0)."""
    low, high = interval
    crossing = (low < 0) & (high > 0)
    width = np.where(crossing, high - low, 1.0)
    upper = np.where(crossing, high / width, low >= 0)
    lower = np.where(crossing, high > -low, low >= 0)
    return ReluRelaxation(lower.astype(float), upper, np.where(crossing, -upper * low, 0.0))


@dataclass(frozen=True, eq=False)
class LinearBound:
    """`rows [n, m, d]` and `centre [n, m]`: a value is at least `rows . (z' - z) + centre`."""

    rows: Float
    centre: Float

    def least(self, radii: Float) -> Float:
        """Its minimum `[n, m]` over the L2 balls of `radii [n]` around z."""
        reach = radii[:, None] * np.linalg.norm(self.rows, axis=2)
        return np.asarray(self.centre - reach)


def crown_margins(problem: MarginProblem, radii: Float) -> Float:
    """Lower bounds `[n, k]` of all margins over the L2 balls of `radii [n]` around the features.

    Theorem: for every `z'` with `||z' - z||_2 <= R`, margin j at `z'` is at least entry j.
    Deterministic (failure probability 0), see `crown_planes`.
    """
    return crown_planes(problem, radii).least(radii)


def crown_planes(problem: MarginProblem, radii: Float) -> LinearBound:
    """Linear lower bounds of all margins over the L2 balls of `radii [n]` around the features.

    Theorem: for every `z'` with `||z' - z||_2 <= R`, margin j at `z'` is at least
    `rows_j . (z' - z) + centre_j`.
    Deterministic (failure probability 0); every bound is moved outward by `rounding`.
    Source: Zhang et al., arXiv 1811.00866, with the adaptive lower slope. The range of a hidden
    layer is the intersection of CROWN's own bound of it and of the interval of the layer before.
    """
    gamma, scale = rounding(problem.classifier), magnitudes(problem, radii)
    relaxations: list[ReluRelaxation] = []
    interval = first_layer_interval(problem, radii)
    for i in range(len(problem.classifier.weights) - 1):
        if i:
            interval = _hidden_interval(problem, radii, i, interval, relaxations)
        interval = widen(interval, gamma * scale[i])
        relaxations.append(relax_relu(interval))
    bound = _backward(problem, problem.rows(), problem.offsets(), relaxations)
    return LinearBound(bound.rows, bound.centre - gamma * scale[-1])


def _hidden_interval(
    problem: MarginProblem,
    radii: Float,
    layer: int,
    before: Interval,
    relaxations: list[ReluRelaxation],
) -> Interval:
    weight, bias = problem.classifier.weights[layer], problem.classifier.biases[layer]
    box_low, box_high = next_interval(weight, bias, before)  # [n, h]
    low = _backward(problem, weight[None], bias[None], relaxations).least(radii)
    high = -_backward(problem, -weight[None], -bias[None], relaxations).least(radii)
    return np.maximum(low, box_low), np.minimum(high, box_high)


def _backward(
    problem: MarginProblem,
    rows: Float,
    offsets: Float,
    relaxations: list[ReluRelaxation],
) -> LinearBound:
    """Lower bounds of `rows v + offsets`, `v` being what the relaxed layers put out.

    `rows` is `[n or 1, m, h]`, `offsets` `[n or 1, m]`. Through a ReLU a positive coefficient
    takes the lower line, a negative one the upper.
    """
    classifier = problem.classifier
    for i in reversed(range(len(relaxations))):
        relu = relaxations[i]
        positive, negative = np.maximum(rows, 0.0), np.minimum(rows, 0.0)
        offsets = offsets + np.matmul(negative, relu.intercept[:, :, None])[:, :, 0]
        rows = positive * relu.lower[:, None, :] + negative * relu.upper[:, None, :]  # [n, m, h]
        offsets = offsets + rows @ classifier.biases[i]
        rows = rows @ classifier.weights[i]  # [n, m, h of the layer before]
    centre = np.matmul(rows, problem.features[:, :, None])[:, :, 0] + offsets  # [n, m]
    return LinearBound(rows, np.asarray(centre))
