"""When a message that failed is sent again, and how much time a call has left.

This is the only retry mechanism of the SDK: gRPC's own ends after five attempts and overlooks
RetryInfo. Encode and Perturb change nothing on the service, so sending twice is always right.
"""

from __future__ import annotations

import math
import random
import time

from reaas._channel import ChannelOptions
from reaas._errors import (
    InvalidArgumentError,
    OverloadedError,
    ReaasError,
    ServiceUnavailableError,
)


class Deadline:
    """The end of a call on the monotonic clock; None: there is none."""

    def __init__(self, timeout_s: float | None) -> None:
        if timeout_s is not None and not (math.isfinite(timeout_s) and timeout_s > 0):
            raise InvalidArgumentError(
                f"timeout is {timeout_s}; it must be a number of seconds above 0, or None",
                field="timeout",
                limit="> 0",
                got=str(timeout_s),
            )
        self._end = None if timeout_s is None else time.monotonic() + timeout_s

    def left(self) -> float | None:
        """Seconds left, not below 0; None: unlimited."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def share(self, rounds: int) -> Deadline:
        """The deadline of the next of `rounds` rounds that divide the time left equally."""
        part = Deadline(None)
        if self._end is not None:
            now = time.monotonic()
            part._end = now + (self._end - now) / rounds
        return part


UNLIMITED = Deadline(None)


class Backoff:
    """Waits between the attempts of one message: doubling, with jitter, within `retry_for_s`."""

    def __init__(self, options: ChannelOptions, deadline: Deadline) -> None:
        self._options = options
        self._deadline = deadline
        self._next_delay = options.retry_first_delay_s
        self._give_up_at: float | None = None

    def delay(self, error: ReaasError) -> float | None:
        """Seconds to wait before the next attempt; None: `error` is final."""
        if not _passes_with_time(error):
            return None
        now = time.monotonic()
        if self._give_up_at is None:
            self._give_up_at = now + self._options.retry_for_s
        # Jitter: the clients of a service that restarts do not all come back at one moment.
        jittered = self._next_delay * random.uniform(0.5, 1.0)
        delay = max(jittered, error.retry_after_s or 0.0)
        self._next_delay = min(2 * self._next_delay, self._options.retry_max_delay_s)
        left = self._deadline.left()
        if now + delay > self._give_up_at or (left is not None and delay >= left):
            return None
        return delay


def _passes_with_time(error: ReaasError) -> bool:
    if isinstance(error, OverloadedError):
        return error.retry_after_s is not None
    return isinstance(error, ServiceUnavailableError)
