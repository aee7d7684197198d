"""The attempts of one message: how long each may take, and when the next one is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reaas._channel import EJECTION_LOOKS_S, ChannelOptions
from reaas._errors import DeadlineExceededError, ReaasError
from reaas._model import Service
from reaas._retry import Backoff, Deadline
from reaas._session import Purpose

_MOST_ATTEMPTS = 3
# A second look is sure to have come: the replica that timed out is left out by then.
_AFTER_TIMEOUT_S = 1.2 * EJECTION_LOOKS_S


@dataclass(frozen=True)
class Message:
    """What is sent, and who is told of an attempt that may have been answered unheard."""

    service: Service
    rpc: Any
    request: Any
    purpose: Purpose
    unconfirmed: Callable[[], None]


def not_metered() -> None:
    """For messages that cost nothing, however often they are answered."""


class Attempts:
    """Divides the time of a message among its attempts, and waits between them.

    `replicas` is how many addresses the service has. `timeout_s` bounds a message whose call has no
    deadline. `undivided`: the service itself makes the most of the time, so each attempt gets all.
    """

    def __init__(
        self,
        options: ChannelOptions,
        deadline: Deadline,
        timeout_s: float | None,
        *,
        replicas: int,
        undivided: bool = False,
    ) -> None:
        self._deadline = deadline
        self._fixed = options.attempt_timeout_s
        self._backoff = Backoff(options, deadline)
        self._without_deadline = timeout_s
        shares = 1 if undivided else min(replicas, _MOST_ATTEMPTS)
        self._left: float = shares if self._fixed is None else math.inf

    def timeout(self) -> float | None:
        """Seconds for the attempt that begins now; None: no limit."""
        left = self._time_left()
        if self._fixed is not None:
            return self._fixed if left is None else min(self._fixed, left)
        return None if left is None else left / max(1.0, self._left)

    def delay(self, error: ReaasError, took_s: float) -> float | None:
        """Seconds until another attempt after one that failed; None: `error` is final."""
        # What the service itself says, it has said of the whole message.
        if isinstance(error, DeadlineExceededError) and not error.reason:
            return self._after_timeout(took_s)
        return self._backoff.delay(error)

    def _after_timeout(self, took_s: float) -> float | None:
        self._left -= 1
        if self._without_deadline is not None:
            self._without_deadline -= took_s
        left = self._time_left()
        goes_on = self._left >= 1 and (left is None or left > 2 * _AFTER_TIMEOUT_S)
        return _AFTER_TIMEOUT_S if goes_on else None

    def _time_left(self) -> float | None:
        left = self._deadline.left()
        return self._without_deadline if left is None else left
