"""The call in progress: who asks, for what, until when, and what it has cost so far."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.metering import Cost
from reaas_runtime.quota import Quotas

SCHEMES = ("reaas", "seaas")
PHASES = ("test", "train")
AUTHORIZATION = "authorization"
DRAWS_KEY = "x-reaas-draws"
MAX_DRAWS = 10**7
_PREFIX = "x-reaas-"
_KNOWN = (AUTHORIZATION, DRAWS_KEY, "x-reaas-scheme", "x-reaas-phase")
# As many digits as MAX_DRAWS has: int() of a longer text takes time, or refuses.
_DRAWS = re.compile(r"[1-9][0-9]{0,7}")
_LONGEST_KEY = 64
_LONGEST_VALUE = 64

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
    """Why the call was refused, for the log: reason and field, nothing that was sent."""
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


def read_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """The metadata that this product reads. Raises DomainError where one of them is there twice.

    Which of two keys counts is nothing to guess: intermediaries may take the other one.
    """
    found: dict[str, str] = {}
    for key, value in pairs:
        if key != AUTHORIZATION and not key.startswith(_PREFIX):
            continue
        if key in found:
            raise DomainError(
                Reason.UNAUTHENTICATED if key == AUTHORIZATION else Reason.INVALID_METADATA,
                f"metadata {key[:_LONGEST_KEY]} is there more than once: send it once",
                field=f"metadata.{key}" if key in _KNOWN else f"metadata.{_PREFIX}*",
                limit=1,
            )
        found[key] = value if isinstance(value, str) else ""
    return found


def read_draws(metadata: Mapping[str, str]) -> int | None:
    """Value of x-reaas-draws, 1 to 10^7; None where absent. DomainError INVALID_METADATA."""
    value = metadata.get(DRAWS_KEY)
    if value is None:
        return None
    if not (_DRAWS.fullmatch(value) and int(value) <= MAX_DRAWS):
        raise DomainError(
            Reason.INVALID_METADATA,
            f"metadata {DRAWS_KEY} is {value[:_LONGEST_VALUE]!r}, not a number from 1 to "
            f"{MAX_DRAWS} in digits, without leading zeros",
            field=f"metadata.{DRAWS_KEY}",
            got=value[:_LONGEST_VALUE],
            limit=MAX_DRAWS,
        )
    return int(value)


def read_choice(metadata: Mapping[str, str], key: str, allowed: tuple[str, ...]) -> str:
    """Value of a metadata key; the first allowed one where absent. DomainError INVALID_METADATA."""
    value = metadata.get(key, allowed[0])
    if value not in allowed:
        raise DomainError(
            Reason.INVALID_METADATA,
            f"metadata {key} is {value[:_LONGEST_VALUE]!r}, allowed: {', '.join(allowed)}",
            field=f"metadata.{key}",
            got=value[:_LONGEST_VALUE],
            limit=", ".join(allowed),
        )
    return value
