"""The largest radius that CROWN certifies for one image: few evaluations, by its growth law."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Centre
from reaas_bounds.bounds.crown import crown
from reaas_bounds.bounds.crown_joint import crown_joint
from reaas_bounds.bounds.linearisation import Linearisation

# Halvings that solve one equation in one unknown: far below any tolerance.
_HALVINGS = 40
# The first evaluations follow the prediction; after so many the bracket is halved instead.
_PREDICTED = 5
_LARGEST = 2.0**64  # beyond, a radius is infinite for all purposes
_LOG_LARGEST = 500.0
# Two points closer than this (in log r) say nothing about a power, and this is its range.
_APART, _POWERS = 1e-3, (0.25, 3.0)
# Share of the tolerance by which a probe aims above the predicted limit, so that it fails.
_AIM = 0.2


class Bound(Protocol):
    """A bound of one image, made for one radius; holds for every smaller one."""

    def at(self, radius: Tensor) -> Tensor:
        """``B(r)`` [1] for ``radius`` [1]."""


@dataclass(frozen=True)
class CrownMethod:
    """One of the bounds.

    ``make`` evaluates it for one radius; ``steepness`` of the Jacobian [n, d] is its slope at
    r = 0; ``growth`` times that is about where it ends, for the first guess.
    """

    make: Callable[[Centre, Linearisation, Tensor], Bound]
    steepness: Callable[[Tensor], Tensor]
    growth: float


CROWN = CrownMethod(crown, torch.linalg.vector_norm, growth=1.25)
CROWN_JOINT = CrownMethod(crown_joint, partial(torch.linalg.matrix_norm, ord=2), growth=2.0)


@dataclass
class Found:
    """``lower`` certified, ``upper`` the smallest radius that failed, evaluations spent."""

    lower: float = 0.0
    upper: float = math.inf
    steps: int = 0

    def ended(self, tolerance: float, goal: float) -> bool:
        """Whether both ends are within the tolerance, or ``goal`` is out of reach."""
        return self.upper <= max(self.lower * (1 + tolerance), goal)


@dataclass(frozen=True)
class Allowance:
    """How far the feature may move within r: ``start - slope r``."""

    start: float
    slope: float

    def at(self, radius: float) -> float:
        """At ``radius``."""
        return self.start - self.slope * radius


def crown_radius(
    centre: Centre,
    method: CrownMethod,
    allowance: Allowance,
    max_steps: int,
    tolerance: float,
    stop: Callable[[], bool],
    goal: float = 0.0,
) -> Found:
    """Bracket the largest r with ``B(r) <= allowance`` for the one image of ``centre``.

    B grows about like ``steepness r exp(c r)``: one evaluation in float32 gives c, and with it
    nearly the limit. There the bound is evaluated in float64, a little above, so that it fails;
    but its lines hold for every smaller radius too, and the largest one at which they pass is
    certified. So one evaluation moves both ends. Deterministic; no certificate rests on the
    prediction. Ends early once it has failed at ``goal`` or below.
    """
    linearisation, found = Linearisation.of(centre), Found()
    law = _Law(float(method.steepness(linearisation.features.image)))
    if max_steps > 1 and not stop():
        first = _limit(lambda r: method.growth * law.steepness * r, allowance)
        single = Centre.of(centre.network, centre.values[0].float())
        radius = single.values[0].new_tensor([first])
        bound = method.make(single, linearisation.single(single.graph), radius)
        law.learn(first, float(bound.at(radius)))
        found.steps += 1
    while found.steps < max_steps and not found.ended(tolerance, goal) and not stop():
        probe = _within(_limit(law.value, allowance) * (1 + _AIM * tolerance), found, tolerance)
        radius = centre.values[0].new_tensor([probe])
        bound = method.make(centre, linearisation, radius)
        value = float(bound.at(radius))
        found.steps += 1
        if value <= allowance.at(probe):
            found.lower = probe
        else:
            found.upper = probe
            found.lower = max(found.lower, _passing(bound, allowance, radius))
        law.learn(probe, value)
    return found


class _Law:
    """``B(r) = steepness r exp(g(r))``, with ``g`` a power of r through the last two points."""

    def __init__(self, steepness: float) -> None:
        self.steepness = steepness
        self._radius, self._height, self._power = 1.0, 0.0, 1.0

    def value(self, radius: float) -> float:
        """The bound that is expected at ``radius``."""
        height = self._height * (radius / self._radius) ** self._power
        return self.steepness * radius * math.exp(min(height, _LOG_LARGEST))

    def learn(self, radius: float, value: float) -> None:
        """Take in the bound at ``radius``."""
        linear = self.steepness * radius
        if not (math.isfinite(value) and value > linear > 0):
            return
        height = math.log(value / linear)
        if self._height > 0 and height > 0 and abs(math.log(radius / self._radius)) > _APART:
            power = math.log(height / self._height) / math.log(radius / self._radius)
            self._power = min(max(power, _POWERS[0]), _POWERS[1])
        self._radius, self._height = radius, height


def _passing(bound: Bound, allowance: Allowance, radius: Tensor) -> float:
    """The largest radius up to ``radius`` that a bound made for it certifies."""
    return _limit(lambda r: float(bound.at(radius.new_tensor([r]))), allowance, float(radius))


def _limit(
    growing: Callable[[float], float], allowance: Allowance, largest: float = _LARGEST
) -> float:
    """The largest r up to ``largest`` with ``growing(r) <= allowance``, to 40 bits; 0 if none."""
    passed, failed = 0.0, min(1.0, largest)
    while failed < largest and growing(failed) <= allowance.at(failed):
        passed, failed = failed, min(2 * failed, largest)
    for _ in range(_HALVINGS):
        middle = (passed + failed) / 2
        if growing(middle) <= allowance.at(middle):
            passed = middle
        else:
            failed = middle
    return passed


def _within(guess: float, found: Found, tolerance: float) -> float:
    """The radius to try: the prediction, kept inside what is not yet known."""
    if math.isinf(found.upper):
        return max(guess, found.lower * (1 + tolerance / 2))
    if found.lower < guess < found.upper and found.steps < _PREDICTED:
        return guess
    return math.sqrt(found.lower * found.upper) if found.lower > 0 else found.upper / 4
