"""Radii that are the same for every question; a search for neighbours, guided by predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reaas_bounds.query import rounded_down

# Radii reach from 2^-64 to 2^64: nobody asks about others.
_OCTAVES = 64
# The first probes follow the prediction; after so many the interval is halved instead.
_PREDICTED = 6


@dataclass(frozen=True)
class Grid:
    """The radii ``2^(i / per_octave)`` for all whole i."""

    per_octave: int

    @classmethod
    def within(cls, tolerance: float) -> Grid:
        """The coarsest whose neighbours differ by at most ``tolerance``, relatively."""
        return cls(math.ceil(math.log(2) / math.log1p(tolerance)))

    def radius(self, index: int) -> float:
        """The radius with this index."""
        return float(2.0 ** (index / self.per_octave))

    def below(self, radius: float) -> int:
        """The index of the largest radius up to ``radius``, within the grid."""
        octaves = math.log2(radius) if radius > 0 else -math.inf
        index = math.floor(min(max(octaves, -_OCTAVES), _OCTAVES) * self.per_octave)
        # The logarithm is rounded.
        if self.radius(index) > radius:
            return index - 1
        return index + 1 if self.radius(index + 1) <= radius else index

    def above(self, radius: float) -> int:
        """The index of the first that is above ``radius`` even when rounded down as an answer."""
        index = self.below(radius) + 1
        return index if rounded_down(self.radius(index)) > radius else index + 1


class Neighbours:
    """The index up to which a bound passes, and the one from which it fails: None if unknown."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.passed: int | None = None
        self.failed: int | None = None
        self._probes = 0

    @property
    def adjacent(self) -> bool:
        """Whether nothing is left to try."""
        return self.passed is not None and self.failed == self.passed + 1

    def passes(self, index: int) -> None:
        """The bound passes at ``index``."""
        self.passed = index if self.passed is None else max(self.passed, index)

    def fails(self, index: int) -> None:
        """It fails there."""
        self.failed = index if self.failed is None else min(self.failed, index)

    def probe(self, predicted: float) -> int:
        """What to try next, where ``predicted`` is about the largest radius that passes.

        Just above the prediction: a failure there can tell of both neighbours.
        """
        self._probes += 1
        if self._probes > _PREDICTED:
            return self._regardless()
        index = self.grid.below(predicted) + 1
        if self.failed is not None:
            index = min(index, self.failed - 1)
        return index if self.passed is None else max(index, self.passed + 1)

    def _regardless(self) -> int:
        """In the middle of what is unknown, or two octaves beyond what is known."""
        beyond = 2 * self.grid.per_octave
        if self.passed is not None and self.failed is not None:
            return (self.passed + self.failed) // 2
        if self.failed is not None:
            return self.failed - beyond
        assert self.passed is not None
        return self.passed + beyond
