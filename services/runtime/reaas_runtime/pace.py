"""How many calls a second one caller may make, answered or refused: a token bucket each."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from reaas_runtime.errors import DomainError, Reason

# Tokens for so many seconds may be saved up: a burst after a pause is no flood.
_BURST_S = 5.0
# Callers remembered, the longest silent forgotten first: a few hundred bytes each.
_MOST_CALLERS = 4096


@dataclass
class _Bucket:
    tokens: float
    at: float


class CallLimiter:
    """Calls of each key, and of each address for calls without a key. Use from one event loop.

    A call takes one token of `calls_per_s` a second; one that is refused takes as many as leave
    `refusals_per_s` a second. A caller without tokens is told when to come back; that costs no
    token, so that the first call after a flood is let in at once.
    """

    def __init__(
        self,
        calls_per_s: float,
        refusals_per_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._clock = calls_per_s, clock
        self._refusal = max(1.0, calls_per_s / refusals_per_s)
        self._most = max(1.0, _BURST_S * calls_per_s)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def enter(self, caller: str) -> None:
        """Count a call, or a message of a stream. Raises DomainError TOO_MANY_CALLS."""
        bucket = self._bucket(caller)
        if bucket.tokens < 1.0:
            wait = max(0.001, (1.0 - bucket.tokens) / self._rate)
            raise DomainError(
                Reason.TOO_MANY_CALLS,
                f"more than {self._rate:g} calls a second, of which a refused one counts as "
                f"{self._refusal:g}: ask less often",
                limit=f"{self._rate:g} a second",
                retry_after_s=wait,
            )
        bucket.tokens -= 1.0

    def refused(self, caller: str) -> None:
        """The call was refused: take what that costs beyond the call itself."""
        bucket = self._bucket(caller)
        bucket.tokens = max(0.0, bucket.tokens - (self._refusal - 1.0))

    def __len__(self) -> int:
        return len(self._buckets)

    def _bucket(self, caller: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._most, now)
            if len(self._buckets) > _MOST_CALLERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        bucket.tokens = min(self._most, bucket.tokens + self._rate * max(0.0, now - bucket.at))
        bucket.at = now
        return bucket
