"""Checkpoints: written to a temporary file and renamed, so that the last good one always exists."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

CHECKPOINT = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, can't be written, or belongs to another recipe."""


@dataclass
class Checkpoint:
    """Everything that decides how a run goes on, taken between two epochs."""

    recipe: dict[str, Any]
    data: str
    epoch: int
    step: int
    seconds: float
    model: dict[str, Any]
    spectral: dict[str, Any]
    optimiser: dict[str, Any]
    generator: torch.Tensor
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, directory: Path) -> Path:
        """Replaces the directory's checkpoint in one step; returns its path.

        Raises `CheckpointError` if it can't be written; the checkpoint before it is then intact.
        """
        path = directory / CHECKPOINT
        temporary = path.with_suffix(".tmp")
        try:
            torch.save(vars(self), temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        # torch reports a write that fails half-way as a RuntimeError of its zip writer.
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            kept = "the one before it is kept" if path.is_file() else "there is none yet"
            raise CheckpointError(
                f"the checkpoint of epoch {self.epoch} can't be written to {path} ({error});"
                f" {kept}. Make room and go on with --resume"
            ) from error
        return path

    @classmethod
    def load(cls, directory: Path) -> Checkpoint:
        """Reads the directory's checkpoint; raises `CheckpointError` if there is none to read."""
        path = directory / CHECKPOINT
        if not path.is_file():
            raise CheckpointError(f"no checkpoint {path}: nothing to resume or export")
        try:
            return cls(**torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, TypeError, pickle.UnpicklingError) as error:
            raise CheckpointError(
                f"{path} can't be read as a checkpoint ({_first_line(error)}): it is damaged or no"
                " checkpoint; restore it from a copy or start anew with another --out"
            ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
