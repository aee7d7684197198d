"""One-dimensional search for the largest radius that a bound certifies."""

from __future__ import annotations

import math

from reaas_bounds.query import SearchOptions

# The widest single jump, 2^32: after two of them a radius is zero or infinite for all purposes.
_LONGEST_JUMP = 32


class Bracket:
    """The radii between which a bound begins to fail: ``lower`` certified, ``upper`` failed.

    Starts at a guess and jumps away from it by 2, 4, 16, 256, ... until both ends are known; then
    halves the ratio (geometric bisection). The probes depend on the guess and the outcomes alone.
    """

    def __init__(self, guess: float, options: SearchOptions) -> None:
        self.guess = guess
        self.options = options
        self.lower = 0.0
        self.upper = math.inf
        self.steps = 0
        self._jump = 1

    @property
    def converged(self) -> bool:
        """Whether the ends are as close as asked."""
        return self.upper <= self.lower * (1 + self.options.relative_tolerance)

    @property
    def open(self) -> bool:
        """Whether another step is due."""
        return not self.converged and self.steps < self.options.max_steps

    @property
    def probe(self) -> float:
        """The radius to try next."""
        if self.steps == 0:
            return self.guess
        if math.isinf(self.upper):
            return math.ldexp(self.lower, self._jump)
        if self.lower == 0.0:
            return math.ldexp(self.upper, -self._jump)
        return math.sqrt(self.lower) * math.sqrt(self.upper)

    def record(self, radius: float, certified: bool) -> None:
        """Take in the outcome of the probe at ``radius``."""
        if certified:
            self.lower = radius
        else:
            self.upper = radius
        if self.steps > 0 and (math.isinf(self.upper) or self.lower == 0.0):
            self._jump = min(2 * self._jump, _LONGEST_JUMP)
        self.steps += 1
