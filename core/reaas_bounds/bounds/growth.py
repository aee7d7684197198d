"""How bounds grow with the radius: a prediction of where one stops to certify."""

from __future__ import annotations

import math
from collections.abc import Callable

# Halvings that solve one equation in one unknown: far below any tolerance.
_HALVINGS = 40
_LARGEST = 2.0**64  # beyond, a radius is infinite for all purposes
_LOG_LARGEST = 500.0
# Two points closer than this (in log r) say nothing about a power, and this is its range.
_APART, _POWERS = 1e-3, (0.25, 3.0)
# The power that encoders were seen to have: 0.8 to 0.9 for CROWN.
_USUAL = 0.87


class Growth:
    """``B(r) = steepness r exp(g(r))``, with ``g`` a power of r through the last two points.

    No certificate rests on it. Before the first point: ``first steepness r``.
    """

    def __init__(self, steepness: float, first: float) -> None:
        self.steepness = steepness
        self._radius, self._height, self._power = 1.0, math.log(first), 0.0

    def limit(self, allowed: Callable[[float], float]) -> float:
        """The largest r at which the bound is expected to be at most ``allowed(r)``."""
        passed, failed = 0.0, 1.0
        while failed < _LARGEST and self._value(failed) <= allowed(failed):
            passed, failed = failed, 2 * failed
        for _ in range(_HALVINGS):
            middle = (passed + failed) / 2
            if self._value(middle) <= allowed(middle):
                passed = middle
            else:
                failed = middle
        return passed

    def learn(self, radius: float, value: float) -> None:
        """Take in the bound at ``radius``."""
        linear = self.steepness * radius
        if not (math.isfinite(value) and value > 0 and linear > 0):
            return
        height, power = math.log(value / linear), _USUAL
        if self._power > 0 and min(height, self._height) > 0:
            apart = math.log(radius / self._radius)
            if abs(apart) > _APART:
                power = math.log(height / self._height) / apart
        self._power = min(max(power, _POWERS[0]), _POWERS[1])
        self._radius, self._height = radius, height

    def _value(self, radius: float) -> float:
        # A bound below its tangent (intervals that reach a flat piece) is not taken further down.
        power = self._power if self._height > 0 else 0.0
        height = self._height * (radius / self._radius) ** power
        return self.steepness * radius * math.exp(min(height, _LOG_LARGEST))
