"""The versions of one model in a repository: which there are, which is next, how one appears.

A version's directory appears in one rename, complete or not at all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class PublishError(RuntimeError):
    """The encoder was not published; the message says why."""


@dataclass(frozen=True)
class Published:
    """What was written where."""

    directory: Path
    manifest: dict[str, Any]
    onnx_difference: float | None = None
    """Largest absolute difference between ONNX Runtime and torch on real images, if compared."""

    @property
    def digest(self) -> str:
        """The name of the encoder's file."""
        return str(self.manifest["digest"])


def publish_version(
    family: Path,
    version: str | None,
    onnx_bytes: bytes,
    digest: str,
    describe: Callable[[Path], dict[str, Any]],
    *,
    replace: bool = False,
) -> Published:
    """Publishes an encoder in its model's directory, with the manifest that `describe` gives it.

    `version` None is the next number, unless this very encoder is published already: then nothing
    is computed or written, and that version is the answer. Raises `PublishError` if the version is
    there already and `replace` is false (certificates name its digest: it never changes).
    """
    before = None if version else published_as(family, digest)
    if before:
        return Published(family / before, read_manifest(family / before))
    target = family / (version or next_version(family))
    if target.exists() and not replace:
        raise PublishError(
            f"{target} exists: published versions don't change, choose another version"
        )
    manifest = describe(target)
    write_version(target, onnx_bytes, manifest)
    return Published(target, manifest)


def next_version(family: Path) -> str:
    """One more than the largest number in a model's directory; "1" for a new model."""
    numbers = [int(path.name) for path in family.glob("[0-9]*") if path.name.isdigit()]
    return str(max(numbers, default=0) + 1)


def published_as(family: Path, digest: str) -> str | None:
    """The version in a model's directory whose encoder has this digest, if there is one."""
    for path in sorted(family.glob("[!.]*")):
        if read_manifest(path).get("digest") == digest:
            return path.name
    return None


def read_manifest(version: Path) -> dict[str, Any]:
    """What a version's manifest says; nothing, where it can't be read (services say what is wrong
    with it when they load it)."""
    try:
        manifest = json.loads((version / "manifest.json").read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def write_version(target: Path, onnx_bytes: bytes, manifest: dict[str, Any]) -> None:
    """Makes a version appear in one rename, complete or not at all; replaces what is there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (temporary / "model.onnx").write_bytes(onnx_bytes)
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        temporary.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
