"""Takes the key file over while a service runs, in a thread of its own.

The thread waits for nothing but the file: neither models nor the event loop can keep a revoked key
alive, and a volume that hangs holds nobody up. See docs/decisions/0017-keys-while-running.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.identity import ApiKeys
from reaas_runtime.key_file import KeyEntry, KeyFile, parse_key_file, read_bytes

# The same complaint is made again after this time, so that a log that was cut off still has it.
_REPEAT_S = 300.0
# A file that is empty or has faults may be half-written: what is missing there goes when it is
# missing in so many looks. An editor that empties the file before it writes it locks nobody out.
_LOOKS = 2
_SHOWN = 5

_log = structlog.get_logger("reaas.keys")


class KeyWatch:
    """Looks at the key file every `poll_s` seconds and hands over the keys that are good now.

    - Faulty lines are skipped and named; the other lines count.
    - A key works as long as its hash stands in the file: lines that are gone end their keys, a
      faulty line with a known hash keeps what was known of it.
    - A file that cannot be read, or has faults and not one good line, says nothing: the last keys
      stay, and `stale_seconds` grows.
    """

    def __init__(
        self,
        file: Path,
        keys: ApiKeys,
        take: Callable[[ApiKeys], None],
        *,
        poll_s: float,
        allow_anonymous: bool,
    ) -> None:
        self._file, self._take, self._poll_s = file, take, poll_s
        self._allow_anonymous = allow_anonymous
        self._entries = keys.entries
        self._missing: dict[str, int] = {}
        self._fresh_at = time.monotonic()
        self._faulty = False
        self._said: tuple[str, float] = ("", 0.0)
        self._stop = threading.Event()

    def close(self) -> None:
        """Look no more; does not wait for a look that hangs."""
        self._stop.set()

    def stale_seconds(self) -> float:
        """How long ago the file was last understood as a whole; 0 where the last look was."""
        age = time.monotonic() - self._fresh_at
        # A look that hangs is noticed here: nobody else could say so.
        return age if self._faulty or age > 3 * self._poll_s + 1.0 else 0.0

    def run(self) -> None:
        """Look again and again until `close`; in a thread of its own."""
        while not self._stop.wait(self._poll_s):
            self.look()

    def look(self) -> None:
        """One look; never raises."""
        try:
            found = parse_key_file(read_bytes(self._file), self._file)
            if found.faults and not found.entries:
                raise ConfigurationError(f"no usable line; {_listed(found.faults)}")
            self._merge(found)
        except ConfigurationError as error:
            self._complain("API keys not taken over: the last ones stay", str(error))
        except Exception as error:
            self._complain("API keys not taken over: the last ones stay", type(error).__name__)

    def _merge(self, found: KeyFile) -> None:
        entries = dict(found.entries)
        for client, entry in self._entries.items():
            if client not in entries and self._stays(client, entry, found):
                entries[client] = entry
        self._missing = {c: n for c, n in self._missing.items() if c in entries}
        for client in found.entries:
            self._missing.pop(client, None)
        if entries != self._entries:
            self._hand_over(entries)
        if found.faults:
            self._complain("faulty lines of the key file are skipped", _listed(found.faults))
            return
        self._fresh_at, self._faulty, self._said = time.monotonic(), False, ("", 0.0)

    def _stays(self, client: str, entry: KeyEntry, found: KeyFile) -> bool:
        """Whether a client that has no good line keeps what was known of it."""
        if entry.hash in found.faulty_hashes:
            return True
        if any(entry.hash == other.hash for other in found.entries.values()):
            return False  # another client has the key now
        if found.entries and not found.faults:
            return False
        self._missing[client] = self._missing.get(client, 0) + 1
        return self._missing[client] < _LOOKS

    def _hand_over(self, entries: dict[str, KeyEntry]) -> None:
        gone = sorted(self._entries.keys() - entries.keys())
        new = sorted(entries.keys() - self._entries.keys())
        self._take(ApiKeys(entries, allow_anonymous=self._allow_anonymous))
        self._entries = entries
        _log.info("API keys taken over", clients=len(entries), new=new[:_SHOWN], gone=gone[:_SHOWN])

    def _complain(self, what: str, why: str) -> None:
        self._faulty = True
        said, when = self._said
        now = time.monotonic()
        if said != why or now - when >= _REPEAT_S:
            self._said = (why, now)
            _log.error(what, why=why)


def _listed(faults: tuple[str, ...]) -> str:
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    return "; ".join(faults[:_SHOWN]) + more
