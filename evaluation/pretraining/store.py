"""Finished measurements on disk, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reaas import ModelRef
from reaas.compare import CurvePoint

from evaluation.pretraining.baseline import Baselines
from evaluation.pretraining.cell import Cell, Certified
from evaluation.pretraining.settings import Baseline, Settings


@dataclass(frozen=True)
class CellStore:
    """One JSON file a cell of REaaS, one for SEaaS on an encoder and data set."""

    directory: Path

    def load(self, encoder: ModelRef, dataset: str, seed: int, settings: Settings) -> Cell | None:
        """The cell, if it was measured with the same encoder digest and the same settings."""
        try:
            data = self._read(_cell_name(encoder, dataset, seed))
            cell = Cell(**(data | _shared(data) | {"settings": Settings(**data["settings"])}))
        except (OSError, ValueError, KeyError, TypeError):  # none, or of another release
            return None
        return cell if (cell.encoder, cell.settings) == (encoder, settings) else None

    def load_baselines(
        self, encoder: ModelRef, dataset: str, settings: Baseline
    ) -> Baselines | None:
        """The same for SEaaS."""
        try:
            data = self._read(_baselines_name(encoder, dataset))
            parts = {
                "settings": _baseline(data["settings"]),
                "curves": [[CurvePoint(**point) for point in curve] for curve in data["curves"]],
            }
            found = Baselines(**(data | _shared(data) | parts))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if (found.encoder, found.settings) == (encoder, settings) else None

    def save(self, found: Cell | Baselines) -> None:
        """Written beside its place and renamed: it is there as a whole or not at all."""
        name = (
            _cell_name(found.encoder, found.dataset, found.seed)
            if isinstance(found, Cell)
            else _baselines_name(found.encoder, found.dataset)
        )
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(found), allow_nan=False)
        path.with_suffix(".part").write_text(text + "\n", encoding="utf-8")
        os.replace(path.with_suffix(".part"), path)

    def _read(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.directory / name).read_text(encoding="utf-8"))
        return data


def _cell_name(encoder: ModelRef, dataset: str, seed: int) -> str:
    return f"{encoder.name}-{encoder.version}-{dataset}-seed{seed}.json"


def _baselines_name(encoder: ModelRef, dataset: str) -> str:
    return f"{encoder.name}-{encoder.version}-{dataset}-seaas.json"


def _shared(data: dict[str, Any]) -> dict[str, Any]:
    certified = [Certified(**found) for found in data["certified"]]
    return {"encoder": ModelRef(**data["encoder"]), "certified": certified}


def _baseline(data: dict[str, Any]) -> Baseline:
    return Baseline(**(data | {name: tuple(data[name]) for name in ("sigmas", "seeds")}))
