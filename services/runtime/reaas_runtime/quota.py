"""How much a client may ask: rates and quotas of its key, counted in queries."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from limits import RateLimitItem, parse

from reaas_runtime.errors import ConfigurationError, DomainError, Reason

Allowance: TypeAlias = tuple[RateLimitItem, ...]
# Limits of windows this long are quotas that clients plan with; shorter ones are rates.
QUOTA_WINDOW_S = 3600


def parse_limits(texts: Iterable[str], where: str) -> Allowance:
    """Limits such as '100/second' or '1000000/day'. Raises ConfigurationError."""
    limits = []
    for text in texts:
        try:
            limits.append(parse(text))
        except (ValueError, OverflowError) as error:
            shown = text if len(text) <= 40 else text[:37] + "..."
            raise ConfigurationError(
                f"{where}: limit {shown!r} is not of the form '100/second' or '1000000/day'"
            ) from error
    return tuple(limits)


@dataclass
class _Window:
    """A fixed window of one limit of one client, in `time.monotonic()` seconds."""

    end: float
    used: int = 0


@dataclass(frozen=True)
class Taken:
    """What one message was let in with, to be given back where it is refused."""

    queries: int
    windows: tuple[_Window, ...]

    def give_back(self) -> None:
        """The message was not answered because of what it is. Windows that ended do not matter."""
        for window in self.windows:
            window.used -= self.queries


class Quotas:
    """Counts what each client was let in with, in fixed windows. Use from one event loop.

    Of this process: with several replicas each client has its limits at every one of them.
    """

    def __init__(self, default: Allowance = ()) -> None:
        self._default = default
        self._own: Mapping[str, Allowance] = {}
        self._windows: dict[tuple[str, RateLimitItem], _Window] = {}

    def allow(self, own: Mapping[str, Allowance]) -> None:
        """Take over the limits of the clients that have limits of their own."""
        self._own = own

    def take(self, client: str, queries: int) -> Taken:
        """Count the queries of a message that is about to be answered, all of them or none.

        Raises DomainError QUOTA_EXCEEDED that says when the window ends.
        """
        limits = self._own.get(client, self._default)
        windows = [self._window(client, limit) for limit in limits]
        for limit, window in zip(limits, windows, strict=True):
            if window.used + queries > limit.amount:
                raise _exceeded(client, limit, window, queries)
        for window in windows:
            window.used += queries
        return Taken(queries, tuple(windows))

    def used(self, client: str) -> float | None:
        """Share of the client's fullest quota that is used, in [0, 1]; None: it has no quota."""
        shares = [
            self._window(client, limit).used / limit.amount if limit.amount > 0 else 1.0
            for limit in self._own.get(client, self._default)
            if limit.get_expiry() >= QUOTA_WINDOW_S
        ]
        return max(shares, default=None)

    def _window(self, client: str, limit: RateLimitItem) -> _Window:
        """The window that is open now. The clock cannot be set: a window lasts what it says."""
        now = time.monotonic()
        window = self._windows.get((client, limit))
        if window is None or now >= window.end:
            window = self._windows[client, limit] = _Window(now + limit.get_expiry())
        return window


def _exceeded(client: str, limit: RateLimitItem, window: _Window, queries: int) -> DomainError:
    remaining = max(0, limit.amount - window.used)
    left = f"{remaining} of {limit.amount} queries in {limit.get_expiry()} s are left"
    message = f"client {client!r}: {left}, the message has {queries}"
    wait: float | None = max(1.0, math.ceil(window.end - time.monotonic()))
    if limit.amount == 0:
        message, wait = f"{message}: this client may not ask", None
    elif queries > limit.amount:
        message, wait = f"{message}: send smaller batches", None
    return DomainError(
        Reason.QUOTA_EXCEEDED, message, got=queries, limit=remaining, retry_after_s=wait
    )
