"""Finished cells on disk, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reaas import ModelRef
from reaas.compare import BreakEven

from evaluation.pretraining.cell import Cell, Certified
from evaluation.pretraining.settings import Baseline, Settings


@dataclass(frozen=True)
class CellStore:
    """One JSON file a cell."""

    directory: Path

    def load(self, encoder: ModelRef, dataset: str, seed: int, settings: Settings) -> Cell | None:
        """The cell, if it was measured with the same encoder digest and the same settings."""
        path = self._path(encoder, dataset, seed)
        if not path.exists():
            return None
        try:
            cell = _from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError):  # of another release: measured anew
            return None
        return cell if (cell.encoder, cell.settings) == (encoder, settings) else None

    def save(self, cell: Cell) -> None:
        """Written beside its place and renamed: a cell is there as a whole or not at all."""
        path = self._path(cell.encoder, cell.dataset, cell.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(cell), allow_nan=False)
        path.with_suffix(".part").write_text(text + "\n", encoding="utf-8")
        os.replace(path.with_suffix(".part"), path)

    def _path(self, encoder: ModelRef, dataset: str, seed: int) -> Path:
        return self.directory / f"{encoder.name}-{encoder.version}-{dataset}-seed{seed}.json"


def _from_json(data: dict[str, Any]) -> Cell:
    parts = {
        "encoder": ModelRef(**data["encoder"]),
        "settings": _settings(data["settings"]),
        "certified": [Certified(**found) for found in data["certified"]],
        "break_even": [BreakEven(**item) for item in data["break_even"]],
    }
    return Cell(**(data | parts))


def _settings(data: dict[str, Any]) -> Settings:
    seaas = data["seaas"]
    baseline = seaas and Baseline(**(seaas | {"sigmas": tuple(seaas["sigmas"])}))
    return Settings(**(data | {"seaas": baseline}))
