"""Interval bound propagation (Gowal et al. 2018) through a classifier, over an L2 ball."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._margins import MarginProblem, magnitudes, rounding

Float = NDArray[np.float64]
Interval = tuple[Float, Float]


def first_layer_interval(problem: MarginProblem, radii: Float) -> Interval:
    """Exact range `[n, h]` of the first layer over the balls: `W z + b -+ R ||W_i||_2`."""
    weight, bias = problem.classifier.weights[0], problem.classifier.biases[0]
    centre = problem.features @ weight.T + bias  # [n, h]
    reach = radii[:, None] * np.linalg.norm(weight, axis=1)  # [n, h]
    return centre - reach, centre + reach


def next_interval(weight: Float, bias: Float, before: Interval) -> Interval:
    """Range `[n, h']` of `W relu(v) + b` for `v` in `before`: `mu <- W mu + b, r <- |W| r`."""
    low, high = np.maximum(before[0], 0.0), np.maximum(before[1], 0.0)  # [n, h]
    centre = (low + high) / 2 @ weight.T + bias  # [n, h']
    reach = (high - low) / 2 @ np.abs(weight).T
    return centre - reach, centre + reach


def ibp_margins(problem: MarginProblem, radii: Float) -> Float:
    """Lower bounds `[n, k]` of all margins over the L2 balls of `radii [n]` around the features.

    Theorem: for every `z'` with `||z' - z||_2 <= R`, margin j at `z'` is at least entry j.
    Deterministic (failure probability 0); each layer is moved outward by `rounding`.
    Source: Gowal et al., arXiv 1810.12715; first layer exact for the 2-norm. The classifier has
    at least one hidden layer (a linear head has an exact radius instead).
    """
    gamma, scale = rounding(problem.classifier), magnitudes(problem, radii)
    low, high = _last_hidden_interval(problem, radii, [gamma * layer for layer in scale])
    low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)  # [n, h]
    rows = problem.rows()  # [n, k, h]
    centre = _dot(rows, (low + high) / 2) + problem.offsets()  # [n, k]
    return centre - _dot(np.abs(rows), (high - low) / 2) - gamma * scale[-1]


def _last_hidden_interval(problem: MarginProblem, radii: Float, outward: list[Float]) -> Interval:
    classifier = problem.classifier
    interval = widen(first_layer_interval(problem, radii), outward[0])
    for i in range(1, len(classifier.weights) - 1):
        interval = next_interval(classifier.weights[i], classifier.biases[i], interval)
        interval = widen(interval, outward[i])
    return interval


def widen(interval: Interval, by: Float) -> Interval:
    """The interval moved outward by `by [n, h]`."""
    return interval[0] - by, interval[1] + by


def _dot(rows: Float, values: Float) -> Float:
    return np.asarray(np.matmul(rows, values[:, :, None])[:, :, 0])  # [n, k]
