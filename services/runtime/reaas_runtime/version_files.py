"""One version as it lies on disk: read within bounds, and checked against its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from reaas.v1 import model_pb2

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.manifest import Manifest
from reaas_runtime.regular_file import read_regular

Key = tuple[str, str]
"""Name and version."""
Fingerprint = tuple[tuple[int, ...], ...]
# A manifest is text that people read; anything longer is not one.
_LONGEST_MANIFEST = 1 << 20


class UnreadableError(DomainError):
    """The files are not (yet) what they should be: another look may find them whole."""


@dataclass(frozen=True)
class ModelEntry:
    """A valid manifest and the ONNX bytes that it speaks of."""

    manifest: Manifest
    onnx: bytes

    @property
    def ref(self) -> model_pb2.ModelRef:
        """Name, version and digest."""
        m = self.manifest
        return model_pb2.ModelRef(name=m.name, version=m.version, digest=m.digest)


def read_entry(directory: Path, name: str, version: str, most_bytes: int = 1 << 31) -> ModelEntry:
    """Read and check one version. Raises DomainError MODEL_BROKEN with the reason."""
    key = (name, version)
    text = _read(key, directory / "manifest.json", _LONGEST_MANIFEST)
    manifest = _parse_manifest(key, text)
    if (manifest.name, manifest.version) != key:
        raise _unreadable(key, f"the manifest says {manifest.name!r} version {manifest.version!r}")
    onnx = _read(key, directory / "model.onnx", most_bytes)
    digest = digest_of(onnx)
    if digest != manifest.digest:
        raise _unreadable(key, f"the manifest says {manifest.digest} but model.onnx is {digest}")
    return ModelEntry(manifest, onnx)


def digest_of(onnx: bytes) -> str:
    """ "sha256:" and the lower-case hex SHA-256 of the bytes of `model.onnx`."""
    return "sha256:" + hashlib.sha256(onnx).hexdigest()


def find_versions(root: Path) -> Iterator[tuple[Key, Fingerprint]]:
    """Every directory <name>/<version>, but hidden ones, and what tells that its files changed."""
    for directory in sorted(root.glob("*/*/")):
        name, version = directory.parent.name, directory.name
        if not (name.startswith(".") or version.startswith(".")):
            files = (directory / "manifest.json", directory / "model.onnx")
            yield (name, version), tuple(_fingerprint(file) for file in files)


def broken(key: Key, why: str) -> DomainError:
    """MODEL_BROKEN for the version `key`."""
    return DomainError(Reason.MODEL_BROKEN, _broken_text(key, why), field="model")


def _unreadable(key: Key, why: str) -> UnreadableError:
    return UnreadableError(Reason.MODEL_BROKEN, _broken_text(key, why), field="model")


def _broken_text(key: Key, why: str) -> str:
    return f"model {key[0]!r} version {key[1]!r} is broken: {why}"


def _read(key: Key, file: Path, most: int) -> bytes:
    try:
        return read_regular(file, most)
    except OSError as error:
        why = f"{file.name} cannot be read: {error.strerror}"
        raise _unreadable(key, why) from error


def _parse_manifest(key: Key, text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise _unreadable(key, f"manifest.json is not valid: {'; '.join(faults)}") from error


def _fingerprint(file: Path) -> tuple[int, ...]:
    try:
        status = file.stat()
    except OSError:
        return (0, 0)
    # The time of the inode: permissions may have changed.
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
