"""Live progress of a run in a terminal."""

from __future__ import annotations

import math

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

_SHOWN = {
    "loss": "loss {:.3f}",
    "sigma_product": "norm product {:.3g}",
    "spread": "spread {:.3g}",
    "images_per_second": "{:.0f} images/s",
    "knn_top1": "k-NN {:.1%}",
    "linear_top1": "linear {:.1%}",
    "certified_lipschitz": "L {:.3g}",
}


class Bars:
    """A bar for the run and a line for every epoch."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("training", total=1.0, loss=math.nan)

    def stepped(self, step: int, progress: float, loss: float) -> None:
        """Moves the bar."""
        self.progress.update(self.task, completed=progress, loss=loss)

    def finished_epoch(self, row: dict[str, float]) -> None:
        """Prints the epoch's numbers."""
        shown = [form.format(row[key]) for key, form in _SHOWN.items() if key in row]
        self.progress.console.print("  ".join([f"epoch {row['epoch']:.0f}", *shown]))


def progress_bars(console: Console) -> Progress:
    """The display that `Bars` writes to."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        console=console,
    )
