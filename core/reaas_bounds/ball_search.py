"""The largest radius that one bound certifies for one image: few evaluations, by its growth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from reaas_bounds.bounds.growth import Growth
from reaas_bounds.bounds.searched import Bound, Image, Searched
from reaas_bounds.grid import Grid, Neighbours
from reaas_bounds.query import SearchOptions, rounded_down

# A bound that does not pass at this share of the radius it was made for says nothing below.
_SMALLEST = 2.0**-10


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


class BallSearch:
    """Search for the largest radius r of the grid with ``B(r) <= allowance``; deterministic.

    B bounds the change of the feature, or the largest share of a margin that is used up.

    A bound made for r holds for every smaller radius too, ``B(s | r)`` for s <= r: an evaluation
    that fails at r still certifies the largest s at which it passes. So one evaluation a little
    above the limit, where the bound's growth predicts it, mostly finds both neighbours. The first
    is in float32 and only says where.

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
        if goal > 0.0 and self._left():
            first = self.grid.above(goal)
            if not self._try(first):
                return Found(0.0, self.grid.radius(first), self.steps, finished=True)
        elif self.max_steps > 1 and self._left():
            self._estimate()
        while not self._done(enough) and self._left():
            self._try(self.neighbours.probe(self.growth.limit(self.allowance.at)))
        failed = self.neighbours.failed
        upper = math.inf if failed is None else self.grid.radius(failed)
        return Found(self._lower, upper, self.steps, self._done(enough))

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
        return Growth(self.method.steepness(self.image), self.method.growth)

    def _left(self) -> bool:
        return self.steps < self.max_steps and not self.stop()

    def _estimate(self) -> None:
        """Learn from one evaluation in float32."""
        self.steps += 1
        radius = self.growth.limit(self.allowance.at)
        made = self.method.estimate(self.image, self.image.x.new_tensor([radius]))
        self.growth.learn(radius, self._at(made, radius))

    def _try(self, index: int) -> bool:
        """Whether the bound passes at ``index``; keeps all that the evaluation says."""
        self.steps += 1
        radius = self.grid.radius(index)
        made = self.method.certify(self.image, self.image.x.new_tensor([radius]))
        self.growth.learn(radius, self._at(made, radius))
        if self._passes(made, index):
            self.neighbours.passes(index)
            return True
        self.neighbours.fails(index)
        self._search_below(made, index)
        return False

    def _search_below(self, made: Bound, index: int) -> None:
        """The largest radius below ``index`` at which the bound made for it passes."""
        low, jump = index - 1, 1
        while not self._passes(made, low):
            if self.grid.radius(low) < _SMALLEST * self.grid.radius(index):
                return
            low, jump = low - jump, 2 * jump
        high = min(low + jump, index)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._passes(made, middle) else (low, middle)
        self.neighbours.passes(low)

    def _passes(self, made: Bound, index: int) -> bool:
        radius = self.grid.radius(index)
        return self._at(made, radius) <= self.allowance.at(radius)

    def _at(self, made: Bound, radius: float) -> float:
        return float(made.at(self.image.x.new_tensor([radius])))
