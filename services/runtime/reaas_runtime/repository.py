"""The model repository: versions on disk, checked, loaded and warmed before anyone sees them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from pydantic import ValidationError
from reaas.v1 import model_pb2

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.manifest import Manifest

M = TypeVar("M")
Key = tuple[str, str]
Fingerprint = tuple[tuple[int, int], ...]
# A manifest is text that people read; anything longer is not one.
_LONGEST_MANIFEST = 1 << 20
# Models loaded at a time: a service starts in half the time, and what loading takes (hundreds of
# MB for certified constants) is there twice, not once for each model.
_LOADERS = 2

_log = structlog.get_logger("reaas.models")


@dataclass(frozen=True)
class ModelEntry:
    """One version as it lies on disk: a valid manifest and the ONNX bytes that it speaks of."""

    manifest: Manifest
    onnx: bytes

    @property
    def ref(self) -> model_pb2.ModelRef:
        """Name, version and digest."""
        m = self.manifest
        return model_pb2.ModelRef(name=m.name, version=m.version, digest=m.digest)


@dataclass(frozen=True)
class Served(Generic[M]):
    """A version that answers: its entry and what the service's loader made of it."""

    entry: ModelEntry
    model: M


class ModelRepository(Generic[M]):
    """All versions below `root`, each loaded by `load` (which also warms it up).

    `refresh` runs in a background thread while `resolve` is called from the event loop: changes
    become visible one version at a time, in order, by replacing dictionaries, never by mutating
    them.
    """

    def __init__(self, root: Path, load: Callable[[ModelEntry], M]) -> None:
        self._root = root
        self._load = load
        self._seen: dict[Key, Fingerprint] = {}
        self._served: dict[Key, Served[M]] = {}
        self._broken: dict[Key, DomainError] = {}
        self.ready = False

    def refresh(self) -> None:
        """Bring the view up to date with the disk. A version that fails leaves the others alone.

        Raises FileNotFoundError where the repository itself is gone (a volume that was lost): what
        is served stays, since nobody removed it.
        """
        if not self._root.is_dir():
            raise FileNotFoundError(f"{self._root} is not a directory")
        found = dict(_scan(self._root))
        for key in self._seen.keys() - found.keys():
            self._forget(key)
        new = [key for key in sorted(found, key=_natural_key) if self._seen.get(key) != found[key]]
        with ThreadPoolExecutor(_LOADERS, thread_name_prefix="loader") as loaders:
            for key, loaded in zip(new, loaders.map(self._try, new), strict=True):
                self._take(key, loaded)
                self._seen[key] = found[key]
        self.ready = True

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
        """The largest version of `name` by natural order, or None."""
        versions = [s for s in self.served() if s.entry.manifest.name == name]
        return versions[-1] if versions else None

    def clear(self) -> None:
        """Free every model."""
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
        if not self.ready:
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
        )

    def _try(self, key: Key) -> Served[M] | DomainError:
        """The version, loaded, or why it is not."""
        name, version = key
        try:
            entry = read_entry(self._root / name / version, name, version)
            return Served(entry, self._load(entry))
        except DomainError as error:
            return error
        except Exception as error:  # a model is data: whatever it does must not stop the others
            _log.exception("model could not be loaded", model=name, version=version)
            return _broken(key, f"it could not be loaded: {type(error).__name__}")

    def _take(self, key: Key, loaded: Served[M] | DomainError) -> None:
        if isinstance(loaded, DomainError):
            self._refuse(key, loaded)
            return
        self._served = {**self._served, key: loaded}
        self._broken = {k: e for k, e in self._broken.items() if k != key}
        digest = loaded.entry.manifest.digest
        _log.info("model ready", model=key[0], version=key[1], digest=digest)

    def _refuse(self, key: Key, error: DomainError) -> None:
        kept = key in self._served
        _log.error(
            "model refused", model=key[0], version=key[1], why=error.message, old_one_served=kept
        )
        if not kept:
            self._broken = {**self._broken, key: error}

    def _forget(self, key: Key) -> None:
        del self._seen[key]
        self._served = {k: s for k, s in self._served.items() if k != key}
        self._broken = {k: e for k, e in self._broken.items() if k != key}
        _log.info("model removed", model=key[0], version=key[1])


def read_entry(directory: Path, name: str, version: str) -> ModelEntry:
    """Read and check one version. Raises DomainError MODEL_BROKEN with the reason."""
    key = (name, version)
    try:
        text = (directory / "manifest.json").read_bytes()[: _LONGEST_MANIFEST + 1]
        onnx = (directory / "model.onnx").read_bytes()
    except OSError as error:
        raise _broken(key, f"a file cannot be read: {error.strerror}") from error
    manifest = _parse_manifest(key, text)
    if (manifest.name, manifest.version) != key:
        raise _broken(key, f"the manifest says {manifest.name!r} version {manifest.version!r}")
    digest = digest_of(onnx)
    if digest != manifest.digest:
        raise _broken(key, f"the manifest says {manifest.digest} but model.onnx is {digest}")
    return ModelEntry(manifest, onnx)


def digest_of(onnx: bytes) -> str:
    """ "sha256:" and the lower-case hex SHA-256 of the bytes of `model.onnx`."""
    return "sha256:" + hashlib.sha256(onnx).hexdigest()


def natural_order(version: str) -> list[tuple[int, int, str]]:
    """Sort key that compares numbers inside versions as numbers: "2" < "10" < "10-rc1"."""
    parts = re.findall(r"\d+|\D+", version)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]


def _parse_manifest(key: Key, text: bytes) -> Manifest:
    if len(text) > _LONGEST_MANIFEST:
        raise _broken(key, f"manifest.json is longer than {_LONGEST_MANIFEST} bytes")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise _broken(key, f"manifest.json is not valid: {'; '.join(faults)}") from error


def _broken(key: Key, why: str) -> DomainError:
    return DomainError(
        Reason.MODEL_BROKEN, f"model {key[0]!r} version {key[1]!r} is broken: {why}", field="model"
    )


def _copy(error: DomainError) -> DomainError:
    """A fresh exception: raising the stored one again and again would grow its traceback."""
    return DomainError(
        error.reason, error.message, field=error.field, got=error.got, limit=error.limit
    )


def _scan(root: Path) -> Iterator[tuple[Key, Fingerprint]]:
    for directory in sorted(root.glob("*/*/")):
        name, version = directory.parent.name, directory.name
        if not (name.startswith(".") or version.startswith(".")):
            files = (directory / "manifest.json", directory / "model.onnx")
            yield (name, version), tuple(_fingerprint(file) for file in files)


def _fingerprint(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _natural_key(key: Key) -> tuple[str, list[tuple[int, int, str]]]:
    return key[0], natural_order(key[1])
