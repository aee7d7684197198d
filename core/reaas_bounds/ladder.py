"""Search on a ladder of radii that is the same for every question."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from reaas_bounds.errors import CalledOffError

# Rungs reach from 2^-64 to 2^64: nobody asks about radii beyond.
_OCTAVES = 64


@dataclass(frozen=True)
class Found:
    """What a search on the ladder found.

    Attributes:
        radius: the largest certified, 0 if no envelope certified any.
        envelopes: how many were built.
        finished: it was not cut off.
    """

    radius: float
    envelopes: int
    finished: bool


def search_ladder(
    certify: Callable[[float, float], float],
    start: float,
    known: float,
    limit: float,
    stop: Callable[[], bool],
    per_octave: int,
) -> Found:
    """The largest radius that ``certify`` certifies, step by step from ``start``.

    ``certify(low, high)`` is what an envelope certifies, at most ``high``, that is built for the
    step between two rungs, neighbours of ``per_octave`` between a power of two and the next. It
    holds its step if that is at least ``low``. From the step around ``start`` the search goes down
    to the first step that holds; or, if that one does, up as long as a step is certified to its
    end and the next one holds. What that last step certifies is the answer. Steps that end at most
    at ``known`` count as certified, those that begin at ``limit`` or later as failed: both are
    spared. ``stop`` is asked before each envelope.

    Theorem: envelopes of different steps are not nested, yet a question of which ``certify``,
    ``start``, ``known`` and ``limit`` are all larger never gets less (of the answer and ``known``).
    Proof: let the smaller question end at step j, so j holds for both. If the larger one starts
    above j, it goes down to j at the farthest, or ends above where it started. If it starts at j or
    below, the smaller one started below too and came up, through steps certified to their ends:
    so does the larger one. It ends at j, with what is certified there at least as much, or above.
    (Once cut off, all that is promised of a radius is that it is certified.)
    """
    steps = _Steps(certify, known, limit, stop, per_octave)
    try:
        return Found(_walk(steps, start), steps.envelopes, finished=True)
    except (_CutOffError, CalledOffError):
        return Found(steps.best, steps.envelopes, finished=False)


class _CutOffError(Exception):
    """The search was told to stop."""


@dataclass
class _Steps:
    """The steps of the ladder, and what was certified of any of them."""

    certify: Callable[[float, float], float]
    known: float
    limit: float
    stop: Callable[[], bool]
    per_octave: int
    best: float = 0.0
    envelopes: int = 0

    def rung(self, index: int) -> float:
        """Where the step begins."""
        return float(2.0 ** (index / self.per_octave))

    def around(self, radius: float) -> int:
        """The step that holds ``radius``, nearly: one of its ends is rounded."""
        octaves = math.log2(radius) if radius > 0 else -math.inf
        return math.floor(min(max(octaves, -_OCTAVES), _OCTAVES) * self.per_octave)

    def certified(self, index: int) -> float:
        """What is certified of a step, at most its end."""
        low, high = self.rung(index), self.rung(index + 1)
        if high <= self.known:
            return high
        if low >= self.limit:
            return 0.0
        if self.stop():
            raise _CutOffError
        self.envelopes += 1
        found = min(self.certify(low, high), high)
        self.best = max(self.best, found)
        return found


def _walk(steps: _Steps, start: float) -> float:
    """The answer of ``search_ladder``."""
    index = steps.around(start)
    found = steps.certified(index)
    while found < steps.rung(index):
        index -= 1
        if index < -_OCTAVES * steps.per_octave:
            return 0.0
        found = steps.certified(index)
        if found >= steps.rung(index):
            return found
    while found >= steps.rung(index + 1):
        index += 1
        above = steps.certified(index)
        if above < steps.rung(index):
            break
        found = above
    return found
