"""Which versions the other replicas have warm: small marks in the repository, one file a replica.

A version that is published becomes the latest of its model when every replica of every service has
it: else an encoder would answer with features of a version whose radii no F2I can give yet. Nobody
coordinates: each replica writes what it has, reads what the others wrote, and waits for nobody
longer than a limit.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from reaas_runtime.regular_file import read_regular
from reaas_runtime.version_files import Key

DIRECTORY = ".ready"
# A replica that has not written for this long is gone: several looks at the repository.
_ALIVE_S = 30.0
_FORGOTTEN_S = 600.0
_LONGEST_MARK = 1 << 20

_log = structlog.get_logger("reaas.models")


@dataclass(frozen=True)
class Peers:
    """What the other replicas have: a set of versions with their digests for each."""

    replicas: tuple[frozenset[tuple[Key, str]], ...] = ()

    def have(self, key: Key, digest: str) -> bool:
        """Whether all of them have this version."""
        return all((key, digest) in replica for replica in self.replicas)


class Marks:
    """This replica's mark, and a look at those of the others; blocking, in one thread.

    Clocks of other machines are not asked: the volume stamps all marks, this replica's too.
    """

    def __init__(self, directory: Path, service: str) -> None:
        self._directory = directory
        self._name = f"{service}-{socket.gethostname()}-{secrets.token_hex(4)}.json"
        self._writable = True

    def exchange(self, versions: Mapping[Key, str], *, starting: bool) -> Peers:
        """Write that `versions` (key -> digest) are warm here; what the others have.

        Nobody waits for a replica that is `starting`: no client is sent to it yet. A volume that
        may not be written, or has no room, leaves this one without a mark: the others do not wait
        for it, and it waits for them.
        """
        try:
            written_at = self._write(versions, starting=starting)
            self._writable = True
        except OSError as error:
            if self._writable:
                self._writable = False
                _log.warning("readiness cannot be written", why=error.strerror, at=self._directory)
            written_at = time.time()
        return Peers(tuple(self._others(written_at)))

    def remove(self) -> None:
        """This replica is gone."""
        (self._directory / self._name).unlink(missing_ok=True)

    def _write(self, versions: Mapping[Key, str], *, starting: bool) -> float:
        """The time that the volume gives the mark."""
        self._directory.mkdir(exist_ok=True)
        found = {"/".join(key): digest for key, digest in versions.items()}
        file, building = self._directory / self._name, self._directory / f".{self._name}"
        content = {"starting": starting, "versions": found}
        building.write_text(json.dumps(content, sort_keys=True))
        building.rename(file)
        os.utime(file)
        return file.stat().st_mtime

    def _others(self, now: float) -> list[frozenset[tuple[Key, str]]]:
        found = []
        try:
            names = sorted(os.listdir(self._directory))
        except OSError:
            return []
        for name in names:
            file = self._directory / name
            if name == self._name or not name.endswith(".json"):
                continue
            try:
                age = now - file.stat().st_mtime
                if age > _FORGOTTEN_S:
                    file.unlink(missing_ok=True)
                elif age <= _ALIVE_S and not name.startswith("."):
                    found += _read(file)
            except (OSError, ValueError):
                continue  # It went between two looks, or is being written by something else.
        return found


def _read(file: Path) -> list[frozenset[tuple[Key, str]]]:
    """What a replica has; nothing of one that is starting. Raises OSError, ValueError."""
    mark = json.loads(read_regular(file, _LONGEST_MARK))
    if not isinstance(mark, dict) or not isinstance(mark.get("versions"), dict):
        raise ValueError(f"{file} is no mark")
    pairs = ((path.partition("/"), str(digest)) for path, digest in mark["versions"].items())
    found = frozenset(((name, version), digest) for (name, _, version), digest in pairs)
    return [] if mark.get("starting") else [found]
