"""The call in progress: who asks, for what, until when, and what it has cost so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.metering import Cost
from reaas_runtime.quota import Quotas

SCHEMES = ("reaas", "seaas")
PHASES = ("test", "train")
DRAWS_KEY = "x-reaas-draws"
MAX_DRAWS = 10**7

_current: ContextVar[Call] = ContextVar("reaas_call")


@dataclass
class Call:
    """One RPC. A stream is one call with many messages: deadline and cost are per message."""

    client_id: str
    scheme: str
    phase: str
    roles: frozenset[str] = frozenset()
    """What the key file lets this client do beyond asking queries."""
    quotas: Quotas = field(default_factory=Quotas)
    """What its client may ask."""
    draws: int | None = None
    """Noise draws that the client says one SEaaS certificate of these inputs takes."""
    deadline: float | None = None
    """`time.monotonic()` seconds by which the current message must be answered."""
    cost: Cost | None = None
    """What the current message cost; set by `charge`, settled when its reply is sent."""
    held_bytes: int = 0
    """Bytes of the current message, for as long as it is in memory."""
    caller: str = ""
    """Whom the rate of calls is counted for: its key, or where it comes from."""
    messages: int = 0
    """Messages so far."""
    why: str | None = None
    """Why the call was refused, for the log."""
    totals: dict[str, int] = field(
        default_factory=lambda: {"queries": 0, "request_bytes": 0, "response_bytes": 0}
    )

    def charge(self, api: str, model: str, queries: int, compute_seconds: float) -> None:
        """State what the current message costs; it is counted if the reply is sent."""
        self.cost = Cost(api, model, queries, compute_seconds)

    def time_left(self) -> float:
        """Seconds until the deadline, not below 0; infinite without one."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, self.deadline - time.monotonic())


def current_call() -> Call:
    """The call that this task (or worker job) belongs to. LookupError outside of a call."""
    return _current.get()


def enter_call(call: Call) -> None:
    """Make `call` the current one of this task."""
    _current.set(call)


def read_draws(metadata: Mapping[str, str]) -> int | None:
    """Value of x-reaas-draws, 1 to 10^7; None where absent. DomainError INVALID_METADATA."""
    value = metadata.get(DRAWS_KEY)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_DRAWS):
        raise DomainError(
            Reason.INVALID_METADATA,
            f"metadata {DRAWS_KEY} is {value!r}, not a number from 1 to {MAX_DRAWS}",
            field=f"metadata.{DRAWS_KEY}",
            got=value,
            limit=MAX_DRAWS,
        )
    return int(value)


def read_choice(metadata: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str:
    """Value of a metadata key; the first allowed one where absent. DomainError INVALID_METADATA."""
    value = metadata.get(key, allowed[0])
    if value not in allowed:
        raise DomainError(
            Reason.INVALID_METADATA,
            f"metadata {key} is {value!r}, allowed: {', '.join(allowed)}",
            field=f"metadata.{key}",
            got=value,
            limit=", ".join(allowed),
        )
    return value
