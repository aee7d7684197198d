"""Features that are paid, written down at once: a run that was cut off goes on from here."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click
import numpy as np
from numpy.typing import NDArray

import reaas
from reaas.cli._images import NamedImage, stacked

Encode = Callable[[NDArray[Any]], NDArray[np.float32]]


class FeatureJournal:
    """A file of one line for each feature, found again by encoder and pixels. A context manager.

    Only features of `model`'s digest are used. A line that was cut off is overlooked.
    """

    def __init__(self, path: Path, model: reaas.ModelRef) -> None:
        self.path = path
        self._model = str(model)
        self._features: dict[str, NDArray[np.float32]] = {}
        self._read()
        self.found = len(self._features)
        """Features that an earlier run has paid for."""
        self._file = path.open("a", encoding="utf-8")
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")

    def features(self, images: Sequence[NamedImage], encode: Encode) -> NDArray[np.float32]:
        """Features [n, d] of images of one shape; only those are queried that are not yet known."""
        new = {image.digest: image for image in images if image.digest not in self._features}
        if new:
            values = encode(stacked(list(new.values())))
            self._write(dict(zip(new, values, strict=True)))
        return np.stack([self._features[image.digest] for image in images])

    def close(self, *, remove: bool = False) -> None:
        """Ends it; `remove`: what is in it has been put elsewhere."""
        self._file.close()
        if remove:
            self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def _read(self) -> None:
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                if entry["model"] == self._model:
                    values = np.frombuffer(base64.b64decode(entry["feature"]), "<f4")
                    self._features[entry["pixels"]] = values.astype(np.float32)
            except (ValueError, KeyError, TypeError):
                continue

    def _write(self, features: dict[str, NDArray[np.float32]]) -> None:
        for digest, values in features.items():
            self._features[digest] = values
            packed = base64.b64encode(values.astype("<f4").tobytes()).decode()
            entry = {"model": self._model, "pixels": digest, "feature": packed}
            self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def open_journal(out: Path, model: reaas.ModelRef) -> FeatureJournal:
    """The journal beside an output file; says what an earlier run has left."""
    journal = FeatureJournal(out.with_name(f"{out.name}.features"), model)
    if journal.found:
        click.echo(f"reaas: {journal.found} features are paid already ({journal.path})", err=True)
    return journal
