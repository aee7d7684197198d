"""The largest radius that a bound verifies, for many inputs at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

RELATIVE_TOLERANCE = 1e-6
"""Where bisection ends; below what any measurement of a radius shows, at about 20 steps."""
LARGEST_RADIUS = 1e9
"""Reported where nothing limits the radius (a head that ignores its input): it stays finite."""
SMALLEST_RADIUS = 1e-12
"""A radius below is reported as 0: float32 features can't resolve it."""


def largest_verified_radius(
    verified: Callable[[NDArray[np.intp], Float], NDArray[np.bool_]], count: int
) -> Float:
    """Radii `[count]`, each one itself verified (or 0); deterministic.

    `verified(rows, radii)` tells for which of the inputs `rows` the label holds in the closed
    ball of `radii`. The radius is doubled or halved until bracketed, then bisected; the lower
    end returned has been verified as it is, so nothing is assumed about monotonicity.
    """
    low, high = np.zeros(count), np.full(count, np.inf)
    trial = np.ones(count)
    rows = np.flatnonzero(verified(np.arange(count), np.zeros(count)))
    while len(rows):
        holds = verified(rows, trial[rows])
        low[rows[holds]] = trial[rows[holds]]
        high[rows[~holds]] = trial[rows[~holds]]
        trial[rows] = _next_trial(low[rows], high[rows], trial[rows])
        rows = rows[_unfinished(low[rows], high[rows])]
    return low


def _next_trial(low: Float, high: Float, trial: Float) -> Float:
    unbounded, unverified = np.isinf(high), low == 0
    middle = low + (np.where(unbounded, low, high) - low) / 2
    return np.where(unbounded, trial * 2, np.where(unverified, trial / 2, middle))


def _unfinished(low: Float, high: Float) -> NDArray[np.bool_]:
    open_above = np.isinf(high) & (low < LARGEST_RADIUS / 2)
    open_below = (low == 0) & (high > SMALLEST_RADIUS)
    wide = np.isfinite(high) & (low > 0) & (high - low > RELATIVE_TOLERANCE * low)
    return np.asarray(open_above | open_below | wide)
