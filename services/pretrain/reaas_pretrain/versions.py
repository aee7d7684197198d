"""The versions of one model in a repository: which there are, and which comes next."""

from __future__ import annotations

import json
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
