"""The client's own account of what it asked for: queries and bytes, as the services meter them."""

from __future__ import annotations

import threading
from dataclasses import dataclass

# Every gRPC message travels behind one compression byte and four length bytes.
FRAME_BYTES = 5


@dataclass(frozen=True)
class Usage:
    """A sum of queries and bytes. One query is one input sent to one API."""

    queries: int = 0
    request_bytes: int = 0
    """Serialized request messages plus 5 bytes of gRPC frame each."""
    response_bytes: int = 0
    """Serialized reply messages plus 5 bytes of gRPC frame each."""

    @property
    def total_bytes(self) -> int:
        """Bytes in both directions."""
        return self.request_bytes + self.response_bytes

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.queries + other.queries,
            self.request_bytes + other.request_bytes,
            self.response_bytes + other.response_bytes,
        )


@dataclass(frozen=True, order=True)
class LedgerKey:
    """What queries are counted by; the label names of the services' meters."""

    api: str
    """`feature` or `f2iperturb`."""
    scheme: str
    """`reaas` or `seaas`."""
    phase: str
    """`train` or `test`."""
    model: str
    """Name of the model that answered."""


class Ledger:
    """Counts every message that was answered OK; failed attempts are free, as on the services.

    An attempt that ended without a word of the service (given up, or its connection broke) may have
    been answered and metered there: it is in `unconfirmed`. So a service's meter is never below
    this account, and never above this account and `unconfirmed` together. Safe to share between
    threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._usage: dict[LedgerKey, Usage] = {}
        self._unconfirmed: dict[LedgerKey, Usage] = {}

    def add(self, key: LedgerKey, usage: Usage) -> None:
        """Adds one answered message."""
        with self._lock:
            self._usage[key] = self._usage.get(key, Usage()) + usage

    def add_unconfirmed(self, key: LedgerKey, usage: Usage) -> None:
        """Adds one message that may have been answered, though the answer never came."""
        with self._lock:
            self._unconfirmed[key] = self._unconfirmed.get(key, Usage()) + usage

    def unconfirmed(self) -> dict[LedgerKey, Usage]:
        """Queries and request bytes that the service may have metered beyond `entries`."""
        with self._lock:
            return dict(sorted(self._unconfirmed.items()))

    def entries(self) -> dict[LedgerKey, Usage]:
        """A copy of the account, sorted by API, scheme, phase and model."""
        with self._lock:
            return dict(sorted(self._usage.items()))

    def totals(
        self,
        *,
        api: str | None = None,
        scheme: str | None = None,
        phase: str | None = None,
        model: str | None = None,
    ) -> Usage:
        """Sum over the entries that match everything that is given."""
        wanted = {"api": api, "scheme": scheme, "phase": phase, "model": model}
        matching = (
            usage
            for key, usage in self.entries().items()
            if all(value in (None, getattr(key, name)) for name, value in wanted.items())
        )
        return sum(matching, Usage())

    def reset(self) -> None:
        """Starts the account anew."""
        with self._lock:
            self._usage.clear()
            self._unconfirmed.clear()
