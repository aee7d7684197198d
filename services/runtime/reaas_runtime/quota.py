"""How much a client may ask: rates and quotas of its key, counted in queries."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

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
        except ValueError as error:
            raise ConfigurationError(
                f"{where}: limit {text!r} is not of the form '100/second' or '1000000/day'"
            ) from error
    return tuple(limits)


class Quotas:
    """Counts what each client was let in with, in fixed windows. Use from one event loop.

    Of this process: with several replicas each client has its limits at every one of them.
    """

    def __init__(self, default: Allowance = ()) -> None:
        self._default = default
        self._own: Mapping[str, Allowance] = {}
        self._counts = FixedWindowRateLimiter(MemoryStorage())

    def allow(self, own: Mapping[str, Allowance]) -> None:
        """Take over the limits of the clients that have limits of their own."""
        self._own = own

    def take(self, client: str, queries: int) -> None:
        """Count the queries of a message that is about to be answered, all of them or none.

        Raises DomainError QUOTA_EXCEEDED that says when the window ends.
        """
        limits = self._own.get(client, self._default)
        for limit in limits:
            if not self._counts.test(limit, client, cost=queries):
                raise self._exceeded(client, limit, queries)
        for limit in limits:
            self._counts.hit(limit, client, cost=queries)

    def used(self, client: str) -> float | None:
        """Share of the client's fullest quota that is used, in [0, 1]; None: it has no quota."""
        shares = [
            1 - self._counts.get_window_stats(limit, client).remaining / limit.amount
            for limit in self._own.get(client, self._default)
            if limit.get_expiry() >= QUOTA_WINDOW_S
        ]
        return max(shares, default=None)

    def _exceeded(self, client: str, limit: RateLimitItem, queries: int) -> DomainError:
        window = self._counts.get_window_stats(limit, client)
        left = f"{window.remaining} of {limit.amount} queries in {limit.get_expiry()} s are left"
        message = f"client {client!r}: {left}, the message has {queries}"
        wait: float | None = max(1.0, math.ceil(window.reset_time - time.time()))
        if queries > limit.amount:
            message, wait = f"{message}: send smaller batches", None
        return DomainError(
            Reason.QUOTA_EXCEEDED,
            message,
            got=queries,
            limit=window.remaining,
            retry_after_s=wait,
        )
