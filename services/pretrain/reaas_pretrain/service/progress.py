"""What a run has left behind so far: rows of progress and printed output."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reaas_pretrain.service.store import OUTPUT, TRAINING

LOG = "log.csv"
# A message of output stays far below every limit of gRPC.
_LONGEST_CHUNK = 1 << 16


@dataclass(frozen=True)
class Row:
    """One epoch's numbers; columns that are empty are left out."""

    epoch: int
    values: dict[str, float]


@dataclass(frozen=True)
class Chunk:
    """Printed text up to byte `end` of the output."""

    text: str
    end: int


def rows(directory: Path, after_epoch: int = 0) -> list[Row]:
    """Rows of the epochs beyond `after_epoch`; the trainer replaces the file as a whole."""
    try:
        text = (directory / TRAINING / LOG).read_text()
    except OSError:
        return []
    found = (_row(record) for record in csv.DictReader(text.splitlines()))
    return [row for row in found if row.epoch > after_epoch]


def epochs_done(directory: Path) -> int:
    """Epochs in a run's log by now."""
    found = rows(directory)
    return found[-1].epoch if found else 0


def chunks(directory: Path, offset: int, *, complete: bool) -> Iterator[Chunk]:
    """Output from byte `offset` on in whole lines; the rest of a line too once it is `complete`."""
    try:
        with (directory / OUTPUT).open("rb") as file:
            file.seek(offset)
            while data := file.read(_LONGEST_CHUNK):
                end = data.rfind(b"\n") + 1
                if end == 0 and not complete and len(data) < _LONGEST_CHUNK:
                    return
                data = data[: end or len(data)]
                offset += len(data)
                file.seek(offset)
                yield Chunk(data.decode(errors="replace"), offset)
    except OSError:
        return


def _row(record: dict[str, str | None]) -> Row:
    values = {key: _number(text) for key, text in record.items() if text}
    known = {key: value for key, value in values.items() if value is not None}
    return Row(int(known.get("epoch", 0)), known)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
