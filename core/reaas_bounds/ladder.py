"""Search on a ladder of radii that is the same for every question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    certify: Callable[[float], float],
    known: float,
    limit: float,
    stop: Callable[[], bool],
    per_octave: int,
) -> Found:
    """The largest radius that ``certify`` certifies, by bisection over the rungs.

    ``certify(rung)`` is what an envelope certifies that is built for the radius ``rung``, one of
    ``per_octave`` between a power of two and the next. Rungs whose successor is at most ``known``
    count as certified, rungs of at least ``limit`` as out of reach: both are spared. ``stop`` is
    asked before each envelope.

    Envelopes for different radii are not nested. What makes the answer monotone all the same: the
    bisection visits the rungs of a tree that does not depend on the question, a rung passes if its
    envelope reaches it, and no radius counts beyond the first rung that did not pass. If a larger
    question (``certify``, ``known``, ``limit`` all larger) passes wherever a smaller one does, the
    paths part only where the larger one turns up, so it ends at least as high. (Once cut off, all
    that is promised of a radius is that it is certified.)
    """

    def rung(index: int) -> float:
        return float(2.0 ** (index / per_octave))

    low, high = -_OCTAVES * per_octave, _OCTAVES * per_octave
    best, envelopes = 0.0, 0
    while high - low > 1:
        middle = (low + high) // 2
        if rung(middle + 1) <= known:
            low = middle
        elif rung(middle) >= limit:
            high = middle
        elif stop():
            return Found(best, envelopes, finished=False)
        else:
            radius = certify(rung(middle))
            envelopes += 1
            best = max(best, radius)
            low, high = (middle, high) if radius >= rung(middle) else (low, middle)
    return Found(min(best, rung(high)), envelopes, finished=True)
