"""The versions of one model in a repository: which there are, which is next, how one appears."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any


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
