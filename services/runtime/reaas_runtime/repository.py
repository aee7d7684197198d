"""The model repository: versions on disk, checked, loaded and warmed before anyone sees them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from reaas.v1 import model_pb2

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.loading import LoadLimits, Loads
from reaas_runtime.readiness import Peers
from reaas_runtime.version_files import (
    Fingerprint,
    Key,
    ModelEntry,
    digest_of,
    find_versions,
    read_entry,
)

__all__ = [
    "ModelEntry",
    "ModelRepository",
    "Served",
    "digest_of",
    "natural_order",
    "read_entry",
]
M = TypeVar("M")
# Versions that were asked for and are not there, remembered until the disk was looked at.
_MOST_MISSED = 1000

_log = structlog.get_logger("reaas.models")


@dataclass(frozen=True)
class Served(Generic[M]):
    """A version that answers: its entry and what the service's loader made of it."""

    entry: ModelEntry
    model: M


class ModelRepository(Generic[M]):
    """All versions below `root`, each loaded by `load` (which also warms it up).

    Each is loaded in a thread of its own and seen as soon as it is warm: a version that is slow,
    that hangs or fails holds up neither the others nor `look`. Changes become visible by replacing
    dictionaries, never by mutating them, while `resolve` is called from the event loop.
    """

    def __init__(
        self,
        root: Path,
        load: Callable[[ModelEntry], M],
        limits: LoadLimits | None = None,
        latest_wait_s: float = 0.0,
    ) -> None:
        self._root = root
        self._latest_wait_s = latest_wait_s
        self._peers = Peers()
        self._latest: dict[str, Key] = {}
        self._warm_since: dict[Key, float] = {}
        self._looks = 0
        self._missed: dict[Key, int] = {}
        self._load = load
        self._limits = limits or LoadLimits()
        self._seen: dict[Key, Fingerprint] = {}
        self._served: dict[Key, Served[M]] = {}
        self._broken: dict[Key, DomainError] = {}
        self._said: dict[Key, str] = {}
        self._loads: Loads[Served[M]] = Loads(self._make, self._take, self._refuse, self._limits)
        self.ready = False
        """Whether the disk was looked at: what there is, is known, if not yet loaded."""
        self.changes = 0
        """Grows with everything that becomes visible."""

    def look(self) -> None:
        """Begin to load what is new on the disk, let go of what is gone; loads nothing itself.

        A version that could not be read is tried again after a while, and whenever its files
        change. Raises FileNotFoundError where the repository itself is gone (a volume that was
        lost): what is served stays, since nobody removed it.
        """
        self._loads.look_after()
        if not self._root.is_dir():
            raise FileNotFoundError(f"{self._root} is not a directory")
        found = dict(find_versions(self._root))
        for key in self._seen.keys() - found.keys():
            self._forget(key)
        due = set(self._loads.retry_due())
        changed = [key for key in found if self._seen.get(key) != found[key] or key in due]
        for key in _newest_first(changed):
            self._seen[key] = found[key]
            self._loads.want(key)
        self.ready = True
        self._looks += 1

    def agree(self, peers: Peers) -> None:
        """Move the latest version of each model to what all `peers` have by now.

        It never moves back while it is served, and waits `latest_wait_s` at most: a replica that
        cannot load a version must not keep the others from it.
        """
        self._peers, now = peers, time.monotonic()
        latest = dict(self._latest)
        for served in self.served():
            key, digest = _key_of(served), served.entry.manifest.digest
            since = self._warm_since.setdefault(key, now)
            known = latest.get(key[0])
            first = known is None or known not in self._served
            newer = first or _natural_key(key) > _natural_key(known or key)
            due = now - since >= self._latest_wait_s
            if newer and (first or due or peers.have(key, digest)):
                latest[key[0]] = key
        self._warm_since = {k: at for k, at in self._warm_since.items() if k in self._served}
        if latest != self._latest:
            self._latest = latest
            self.changes += 1

    @property
    def warm(self) -> dict[Key, str]:
        """Digests of the versions that answer."""
        return {_key_of(served): served.entry.manifest.digest for served in self.served()}

    @property
    def settled(self) -> bool:
        """Whether the disk was looked at and nothing is being loaded."""
        return self.ready and not self._loads.names()

    @property
    def missed(self) -> bool:
        """Whether somebody asked for a version that the next look may find."""
        return any(looks == self._looks for looks in self._missed.values())

    def refresh(self) -> None:
        """As `look`, and wait until everything is loaded or given up."""
        self.look()
        self._loads.wait()

    @property
    def loading(self) -> bool:
        """Whether a version is being loaded."""
        return bool(self._loads.names())

    def resolve(self, ref: model_pb2.ModelRef) -> Served[M]:
        """The version that `ref` names (the latest where it names none).

        Raises DomainError: NOT_READY, MODEL_NAME_MISSING, MODEL_NOT_FOUND, MODEL_BROKEN,
        UNSUPPORTED_OPERATOR, DIGEST_MISMATCH.
        """
        if not ref.name:
            raise DomainError(
                Reason.MODEL_NAME_MISSING, "model.name is empty: name a model", field="model.name"
            )
        served = self._find(ref)
        actual = served.entry.manifest.digest
        if ref.digest and ref.digest != actual:
            raise DomainError(
                Reason.DIGEST_MISMATCH,
                f"model.digest is {ref.digest!r} but version {served.entry.manifest.version!r} of "
                f"model {ref.name!r} is served with {actual!r}",
                field="model.digest",
                got=ref.digest,
                limit=actual,
            )
        return served

    def served(self) -> list[Served[M]]:
        """Every version that answers, sorted by name, then version."""
        served = self._served
        return [served[key] for key in sorted(served, key=_natural_key)]

    def latest(self, name: str) -> Served[M] | None:
        """The version that clients get who name none: the largest that all replicas agree on.

        The largest by natural order where there is none of that kind.
        """
        agreed = self._served.get(self._latest.get(name, (name, "")))
        if agreed is not None:
            return agreed
        versions = [s for s in self.served() if s.entry.manifest.name == name]
        return versions[-1] if versions else None

    def clear(self) -> None:
        """Free every model."""
        self._loads.clear()
        self._served, self._broken, self._seen = {}, {}, {}

    def _find(self, ref: model_pb2.ModelRef) -> Served[M]:
        key = (ref.name, ref.version)
        served = self._served.get(key) if ref.version else self.latest(ref.name)
        if served is not None:
            return served
        broken = self._broken
        failures = [broken[k] for k in broken if k == key or (k[0] == ref.name and not ref.version)]
        if failures:
            raise _copy(failures[-1])
        if not self.ready or ref.name in self._loads.names() or self._may_appear(ref):
            raise DomainError(
                Reason.NOT_READY, "the service is still loading its models", retry_after_s=1.0
            )
        known = [f"{s.entry.manifest.name}/{s.entry.manifest.version}" for s in self.served()]
        raise DomainError(
            Reason.MODEL_NOT_FOUND,
            f"model {ref.name!r}{f' version {ref.version!r}' if ref.version else ''} is not "
            f"served; there are: {', '.join(known) or 'none'}",
            field="model.version" if self.latest(ref.name) else "model.name",
            got=ref.version or ref.name,
            limit=", ".join(known),
            # A digest comes from another service's answer: this replica may be late.
            retry_after_s=1.0 if ref.digest else None,
        )

    def _may_appear(self, ref: model_pb2.ModelRef) -> bool:
        """Whether the next look at the disk may find what another service answered with.

        A digest comes from an answer, so the version is on the volume, or was.
        """
        key = (ref.name, ref.version)
        if not (ref.digest and ref.version):
            return False
        asked_at = self._missed.get(key)
        if asked_at is not None and asked_at < self._looks:
            del self._missed[key]
            return False
        if len(self._missed) >= _MOST_MISSED:
            self._missed.clear()
        self._missed[key] = self._looks
        return True

    def _make(self, key: Key) -> Served[M]:
        """The version, loaded: what it is on disk already, where its files only look changed."""
        name, version = key
        entry = read_entry(self._root / name / version, name, version, self._limits.model_bytes)
        known = self._served.get(key)
        return known if known and known.entry == entry else Served(entry, self._load(entry))

    def _take(self, key: Key, loaded: Served[M]) -> None:
        self._said.pop(key, None)
        if self._served.get(key) is loaded:
            return
        self._served = {**self._served, key: loaded}
        self._broken = {k: e for k, e in self._broken.items() if k != key}
        self.changes += 1
        digest = loaded.entry.manifest.digest
        _log.info("model ready", model=key[0], version=key[1], digest=digest)

    def _refuse(self, key: Key, error: DomainError) -> None:
        kept, why = key in self._served, error.message
        if self._said.get(key) != why:  # it is tried again and again
            self._said[key] = why
            _log.error("model refused", model=key[0], version=key[1], why=why, old_one_served=kept)
        if not kept:
            self._broken = {**self._broken, key: error}
            self.changes += 1

    def _forget(self, key: Key) -> None:
        del self._seen[key]
        self._said.pop(key, None)
        self._loads.forget(key)
        self._served = {k: s for k, s in self._served.items() if k != key}
        self._broken = {k: e for k, e in self._broken.items() if k != key}
        self.changes += 1
        _log.info("model removed", model=key[0], version=key[1])


def _key_of(served: Served[M]) -> Key:
    return served.entry.manifest.name, served.entry.manifest.version


def natural_order(version: str) -> list[tuple[int, int, str]]:
    """Sort key that compares numbers inside versions as numbers: "2" < "10" < "10-rc1"."""
    parts = re.findall(r"\d+|\D+", version)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _copy(error: DomainError) -> DomainError:
    """A fresh exception: raising the stored one again and again would grow its traceback."""
    return DomainError(
        error.reason, error.message, field=error.field, got=error.got, limit=error.limit
    )


def _newest_first(keys: list[Key]) -> list[Key]:
    """By version from the newest on, so that a start serves what clients ask for soon."""
    ascending = sorted(keys, key=_natural_key)
    rank = {key: [k for k in ascending if k[0] == key[0]][::-1].index(key) for key in ascending}
    return sorted(ascending, key=lambda key: rank[key])


def _natural_key(key: Key) -> tuple[str, list[tuple[int, int, str]]]:
    return key[0], natural_order(key[1])
