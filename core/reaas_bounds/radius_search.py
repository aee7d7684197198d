"""The largest radius that one bound certifies for one image: few evaluations, by its growth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from reaas_bounds.bounds.growth import Growth
from reaas_bounds.bounds.searched import Bound, Image, Make, Searched
from reaas_bounds.errors import CalledOffError
from reaas_bounds.grid import Grid, Neighbours
from reaas_bounds.query import SearchOptions, rounded_down

# A bound that does not pass at this share of the radius it was made for says nothing below.
_SMALLEST = 2.0**-10
# Evaluations in float32 before the first in float64, at most; mostly two find where it fails.
_ESTIMATES = 4
# A bound in float32 is good to a few 1e-6 of itself: above the allowance by this share it fails.
_CLEARLY = 1e-4


@dataclass(frozen=True)
class Allowance:
    """How large the bound may be at r: ``start - slope r``."""

    start: float
    slope: float

    def at(self, radius: float) -> float:
        """At ``radius``."""
        return self.start - self.slope * radius


@dataclass(frozen=True)
class Found:
    """``lower`` certified, ``upper`` the smallest radius that failed, evaluations spent.

    ``finished``: they are neighbours on the grid, the goal is out of reach, or enough is reached.
    """

    lower: float
    upper: float
    steps: int
    finished: bool


class RadiusSearch:
    """Search for the largest radius r of the grid with ``B(r) <= allowance``; deterministic.

    B bounds the change of the feature, or the largest share of a margin that is used up.

    A bound made for r holds for every smaller radius too, ``B(s | r)`` for s <= r: an evaluation
    that fails at r still certifies the largest s at which it passes. Where the growth of the bound
    predicts that it fails is confirmed in float32, with a slack; so one evaluation in float64,
    of the radius just below, is mostly all that a certificate takes.

    Theorem: if ``B(s | r)`` never falls with r, nor with s, the answer is the largest radius of
    the grid with ``B(r | r) <= allowance``, whatever was tried on the way; so a larger allowance
    never gives a smaller answer. Proof: ``B(s | s) <= B(s | r) <= B(r | r)``: what passes for r
    passes if made for s, and what fails at s fails at r. IBP satisfies this: its intervals are
    nested. CROWN chooses lines by the interval, and could break it; then the answer is as
    certified, but another search might end elsewhere. (The tests look for such cases.)
    """

    def __init__(
        self,
        image: Image,
        method: Searched,
        allowance: Allowance,
        options: SearchOptions,
        stop: Callable[[], bool],
    ) -> None:
        self.image, self.method, self.allowance, self.stop = image, method, allowance, stop
        self.grid = Grid.within(options.relative_tolerance)
        self.neighbours = Neighbours(self.grid)
        self.max_steps, self.steps = options.max_steps, 0

    def search(self, goal: float, enough: float = math.inf) -> Found:
        """The answer; with a ``goal``, nothing that is not above it.

        The first radius of the grid above ``goal`` is tried first. If the bound fails there, its
        own answer is not above ``goal``: that one evaluation is all. Nothing is looked for beyond
        ``enough``.
        """
        try:
            if goal > 0.0 and self._left():
                first = self.grid.above(goal)
                if not self._try(first):
                    return Found(0.0, self.grid.radius(first), self.steps, finished=True)
            elif self.max_steps > 1:
                self._estimate()
            while not self._done(enough) and self._left():
                self._try(self.neighbours.probe(self._limit()))
        except CalledOffError:
            return self._found(finished=False)
        return self._found(finished=self._done(enough))

    def _found(self, *, finished: bool) -> Found:
        """What is known by now."""
        failed = self.neighbours.failed
        upper = math.inf if failed is None else self.grid.radius(failed)
        return Found(self._lower, upper, self.steps, finished)

    @property
    def _lower(self) -> float:
        """What is certified."""
        passed = self.neighbours.passed
        return 0.0 if passed is None else rounded_down(self.grid.radius(passed))

    def _done(self, enough: float) -> bool:
        return self.neighbours.adjacent or self._lower >= enough

    @cached_property
    def growth(self) -> Growth:
        """What is known of the bound at this image."""
        expected = self.method.growth(self.image, self.allowance.start)
        return Growth(self.method.steepness(self.image), expected)

    def _left(self) -> bool:
        return self.steps < self.max_steps and not self.stop()

    def _estimate(self) -> None:
        """Find where the bound begins to fail by evaluations in float32."""
        near = Neighbours(self.grid)
        for _ in range(min(_ESTIMATES, self.max_steps - 1)):
            if not self._left() or near.failed == self._predicted() + 1:
                break
            self._evaluate(self.method.estimate, near.probe(self._limit()), near, 1 - _CLEARLY)
        if near.failed is not None:
            self.neighbours.fails(near.failed)

    def _try(self, index: int) -> bool:
        """Whether the bound passes at ``index``; keeps all that the evaluation says."""
        return self._evaluate(self.method.certify, index, self.neighbours, 1.0)

    def _evaluate(self, make: Make, index: int, known: Neighbours, share: float) -> bool:
        """The same by ``make``, for ``known``, with this ``share`` of the bound."""
        self.steps += 1
        radius = self.grid.radius(index)
        made = make(self.image, self.image.x.new_tensor([radius]))
        self.growth.learn(radius, self._at(made, radius))
        if self._passes(made, index, share):
            known.passes(index)
            return True
        known.fails(index)
        below = self._below(made, index, share)
        if below is not None:
            known.passes(below)
        return False

    def _limit(self) -> float:
        return self.growth.limit(self.allowance.at)

    def _predicted(self) -> int:
        """Index of the largest radius that is expected to pass."""
        return self.grid.below(self._limit())

    def _below(self, made: Bound, index: int, share: float) -> int | None:
        """The largest radius below ``index`` at which the bound made for it passes."""
        low, jump = index - 1, 1
        while not self._passes(made, low, share):
            if self.grid.radius(low) < _SMALLEST * self.grid.radius(index):
                return None
            low, jump = low - jump, 2 * jump
        high = min(low + jump, index)
        while high - low > 1:
            middle = (low + high) // 2
            passed = self._passes(made, middle, share)
            low, high = (middle, high) if passed else (low, middle)
        return low

    def _passes(self, made: Bound, index: int, share: float) -> bool:
        radius = self.grid.radius(index)
        return share * self._at(made, radius) <= self.allowance.at(radius)

    def _at(self, made: Bound, radius: float) -> float:
        return float(made.at(self.image.x.new_tensor([radius])))
