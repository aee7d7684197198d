"""When a search has to end so that its answer still reaches the client in time."""

from __future__ import annotations

import time

from reaas_runtime import stop_asked

# Share of the remaining time kept for sending the answer, at most _LONGEST_RESERVE_S.
_RESERVE = 0.1
_LONGEST_RESERVE_S = 0.5
# The next step may take longer than the last: its bracket has moved to a larger radius.
_NEXT_STEP = 1.5


def reserve(remaining: float) -> float:
    """Seconds of those remaining that are kept for sending the answer."""
    return min(_LONGEST_RESERVE_S, _RESERVE * remaining)


class Patience:
    """`stop` of one search: true when another step would not end before the deadline, or when the
    job is asked to stop.

    The time between two calls is that of a step. `deadline` is in `time.monotonic()` seconds;
    `expected_step` in seconds is what the first step will take, as far as anybody knows. `rounds`
    is how many searches, one after the other, have to end before the deadline, this one included.
    """

    def __init__(self, deadline: float | None, expected_step: float = 0.0, rounds: int = 1) -> None:
        self._limit = float("inf")
        if deadline is not None:
            now = time.monotonic()
            remaining = max(deadline - now, 0.0)
            usable = remaining - reserve(remaining)
            self._limit = now + usable / rounds
        self._expected = expected_step
        self._last: float | None = None
        self.longest_step = 0.0

    def __call__(self) -> bool:
        """Whether the search has to end with what it has certified."""
        now = time.monotonic()
        if self._last is not None:
            self.longest_step = max(self.longest_step, now - self._last)
            # A search goes from cheap bounds to expensive ones and back: the longest step counts.
            self._expected = max(self._expected, self.longest_step)
        self._last = now
        return now + _NEXT_STEP * self._expected >= self._limit or stop_asked()

    def over(self) -> bool:
        """The same inside of a step: whether to leave it."""
        return time.monotonic() >= self._limit or stop_asked()
