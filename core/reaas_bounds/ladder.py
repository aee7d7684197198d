"""Search on a ladder of radii that is the same for every question."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

# Rungs are powers of two. An envelope says within 8% the same at a radius anywhere between half and
# 1.3 times the one that it was built for, so a finer ladder brings little for each envelope.
# They reach from 2^-64 to 2^64: nobody asks about radii beyond.
_REACH = 64
# Where a finer answer is asked for: rungs between the last that passed and the next.
_BETWEEN = (0.25, 0.5, 0.75)


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


@dataclass
class Ladder:
    """One question to the ladder.

    Attributes:
        certify: what an envelope certifies that is built for the first radius and holds up to the
            second.
        known: rungs whose successor is at most this count as certified.
        limit: rungs of at least this count as out of reach.
        stop: asked before each envelope; True cuts the search off.
    """

    certify: Callable[[float, float], float]
    known: float
    limit: float
    stop: Callable[[], bool]
    best: float = 0.0
    envelopes: int = 0
    finished: bool = field(default=True)

    def search(self, *, fine: bool) -> Found:
        """The largest radius certified, by bisection over the rungs.

        Envelopes for different radii are not nested. What makes the answer monotone all the same:
        the bisection visits the rungs of a tree that does not depend on the question, a rung
        passes if its envelope reaches it, and no radius counts beyond the first rung that did not
        pass. If a larger question (``certify``, ``known``, ``limit`` all larger) passes wherever a
        smaller one does, the paths part only where the larger one turns up, so it ends at least as
        high. (Once cut off, all that is promised of a radius is that it is certified.)

        ``fine``: build envelopes between the last rung that passed and the next one, too.
        """
        low, high = -_REACH, _REACH
        while self.finished and high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._passes(middle) else (low, middle)
        if self.finished and fine and 2.0**high > self.known:
            for part in _BETWEEN:
                self._build(2.0 ** (low + part), 2.0**high)
        return Found(min(self.best, 2.0**high), self.envelopes, self.finished)

    def _passes(self, index: int) -> bool:
        if 2.0 ** (index + 1) <= self.known:
            return True
        return 2.0**index < self.limit and self._build(2.0**index, 2.0 ** (index + 1))

    def _build(self, radius: float, within: float) -> bool:
        """Whether the envelope for ``radius`` reaches it."""
        if not self.finished or self.stop():
            self.finished = False
            return False
        certified = self.certify(radius, within)
        self.envelopes += 1
        self.best = max(self.best, certified)
        return certified >= radius
