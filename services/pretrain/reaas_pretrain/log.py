"""Where the numbers of a run go: log.csv always, TensorBoard if it is asked for."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

LOG = "log.csv"


class Watcher(Protocol):
    """Told how a run goes."""

    def stepped(self, step: int, progress: float, loss: float) -> None:
        """After every step; `progress` in [0, 1] is the share of the run that is done."""

    def finished_epoch(self, row: dict[str, float]) -> None:
        """After every epoch, with its row of the log."""


def write_log(directory: Path, history: Sequence[dict[str, float]]) -> None:
    """Replaces the directory's log.csv by a row an epoch, in one step."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    temporary = (directory / LOG).with_suffix(".tmp")
    with temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)
    temporary.replace(directory / LOG)


class TensorBoardUnavailableError(RuntimeError):
    """TensorBoard was asked for and isn't installed."""


class TensorBoard:
    """Every column of the log as a scalar, by step."""

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TensorBoardUnavailableError(
                "--tensorboard needs the package tensorboard (pip install tensorboard);"
                " log.csv holds the same numbers"
            ) from error
        self.writer = SummaryWriter(str(directory))

    def stepped(self, step: int, progress: float, loss: float) -> None:
        """Epochs are enough: a scalar a step would be most of what a run writes."""

    def finished_epoch(self, row: dict[str, float]) -> None:
        """Writes the row's numbers at its step."""
        for key, value in row.items():
            self.writer.add_scalar(key, value, int(row["step"]))
        self.writer.flush()
