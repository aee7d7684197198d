"""Certificates as a CSV file that grows line by line, and from which a run goes on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

import reaas
from reaas.certify import DownstreamClassifier
from reaas.cli._outputs import write_file

COLUMNS = (
    *("image", "class", "label", "right", "radius", "feature_radius", "bound"),
    *("resize", "encoder", "job", "pixels"),
)


@dataclass(frozen=True)
class Certified:
    """One image's certificate."""

    image: str
    """Its path."""
    truth: str | None
    """The class folder that it lies in; None: unknown."""
    label: str | None
    """Name of the class; None: the classifier abstains."""
    radius: float
    feature_radius: float | None
    bound: str | None
    resize: str
    pixels: str
    """Digest of what was sent."""

    @property
    def right(self) -> bool | None:
        """Whether the label is the truth; None: unknown."""
        return None if self.truth is None else self.label == self.truth

    def cells(self, encoder: str, job: str) -> list[str]:
        """The line of the CSV, in the order of COLUMNS."""
        right = {None: "", True: "yes", False: "no"}[self.right]
        feature_radius = "" if self.feature_radius is None else repr(self.feature_radius)
        return [
            *(self.image, self.truth or "", self.label or "", right, repr(self.radius)),
            *(feature_radius, self.bound or "", self.resize, encoder, job, self.pixels),
        ]


def job_digest(model: reaas.ModelRef, head: DownstreamClassifier, **how: str) -> str:
    """Stands for everything but the image that a certificate depends on."""
    digest = hashlib.sha256(json.dumps([model.digest, head.names, how], sort_keys=True).encode())
    for array in (*head.weights, *head.biases):
        digest.update(f"{array.shape}".encode() + array.astype("<f8").tobytes())
    return digest.hexdigest()[:16]


class Book:
    """Certificates by the pixels that they are of. Without a file they are only remembered."""

    def __init__(self, file: Path | None, encoder: str, job: str) -> None:
        self._file, self._encoder, self._job = file, encoder, job
        self.done: dict[str, Certified] = {}
        self._written: set[tuple[str, str]] = set()
        self._stream: TextIO | None = None
        if file is not None:
            self._resume(file)
        self.found = len(self.done)

    def add(self, certificates: Iterable[Certified]) -> None:
        """Remembers certificates; those that the file lacks are written down at once."""
        new = [c for c in certificates if (c.image, c.pixels) not in self._written]
        for certificate in new:
            self.done[certificate.pixels] = certificate
            self._written.add((certificate.image, certificate.pixels))
        if self._stream is not None and new:
            writer = csv.writer(self._stream)
            writer.writerows(c.cells(self._encoder, self._job) for c in new)
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Ends the file."""
        if self._stream is not None:
            self._stream.close()

    def _resume(self, file: Path) -> None:
        kept = self._read(file) if file.is_file() and file.stat().st_size else []
        text = io.StringIO(newline="")
        csv.writer(text).writerows([list(COLUMNS), *kept])
        # Anew, without a line that was cut off.
        write_file(file, lambda part: _write(part, text.getvalue()))
        self._stream = file.open("a", encoding="utf-8", newline="")

    def _read(self, file: Path) -> list[list[str]]:
        try:
            whole = file.read_bytes()
            text = whole[: whole.rfind(b"\n") + 1].decode("utf-8")
            rows = list(csv.reader(io.StringIO(text, newline="")))
        except (UnicodeDecodeError, csv.Error):
            rows = []
        if not rows or tuple(rows[0]) != COLUMNS:
            raise reaas.InvalidArgumentError(
                f"--csv {file}: there is a file already that is no list of certificates",
                field="csv",
            )
        kept: list[list[str]] = []
        for row in rows[1:]:
            if len(row) != len(COLUMNS):
                continue
            if row[COLUMNS.index("job")] != self._job:
                raise reaas.InvalidArgumentError(
                    f"--csv {file}: has certificates of another encoder, classifier or method "
                    f"({row[COLUMNS.index('encoder')]}); name another file, or remove it",
                    field="csv",
                )
            certificate = _parsed(row)
            self.done[certificate.pixels] = certificate
            self._written.add((certificate.image, certificate.pixels))
            kept.append(row)
        return kept


def _write(file: Path, text: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)


def _parsed(row: list[str]) -> Certified:
    cell = dict(zip(COLUMNS, row, strict=True))
    try:
        radius = float(cell["radius"])
        feature_radius = float(cell["feature_radius"]) if cell["feature_radius"] else None
    except ValueError:
        radius = np.nan
    if not radius >= 0:
        raise reaas.InvalidArgumentError(
            f"--csv: the radius of {cell['image']} is {cell['radius']!r}", field="csv"
        )
    return Certified(
        image=cell["image"],
        truth=cell["class"] or None,
        label=cell["label"] or None,
        radius=radius,
        feature_radius=feature_radius,
        bound=cell["bound"] or None,
        resize=cell["resize"],
        pixels=cell["pixels"],
    )
