"""Checkpoints: written to a temporary file and renamed, so that the last good one always exists."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

CHECKPOINT = "checkpoint.pt"


class CheckpointError(ValueError):
    """A checkpoint is missing or belongs to another recipe."""


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
        """Replaces the directory's checkpoint in one step; returns its path."""
        path = directory / CHECKPOINT
        temporary = path.with_suffix(".tmp")
        torch.save(vars(self), temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, directory: Path) -> Checkpoint:
        """Reads the directory's checkpoint; raises `CheckpointError` if there is none."""
        path = directory / CHECKPOINT
        if not path.is_file():
            raise CheckpointError(f"no checkpoint {path}: nothing to resume or export")
        return cls(**torch.load(path, weights_only=True))
