"""`python -m reaas_pretrain`: train, export and search recipes."""

from __future__ import annotations

import math
import os
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import Progress, track

from reaas_pretrain.bars import Bars, progress_bars
from reaas_pretrain.checkpoint import CHECKPOINT, Checkpoint, CheckpointError
from reaas_pretrain.group import Group, torchrun_group
from reaas_pretrain.image_files import ImagesError
from reaas_pretrain.images import SOURCES, labelled_images, training_images
from reaas_pretrain.log import TensorBoard, TensorBoardUnavailableError, Watcher
from reaas_pretrain.monitor import Monitor
from reaas_pretrain.publishing import PublishError, publish
from reaas_pretrain.recipe import Recipe, RecipeError, load_recipe, parse_recipe
from reaas_pretrain.search import Change, search, search_table, usual_changes
from reaas_pretrain.train import DivergedError, Trainer

SOURCE = "tiny_imagenet"
"""What the shipped encoders learned from."""
JUDGED_ON = "cifar10"
MONITOR_TRAIN, MONITOR_TEST = 5_000, 1_000
"""Enough for a standard error of 1.5 % in seconds; the published figures use all images."""

console = Console(quiet=os.environ.get("RANK", "0") != "0")
"""Under torchrun only the first process speaks."""
recipe_option = click.option(
    "--recipe",
    "recipe_path",
    required=True,
    type=click.Path(path_type=Path),
    help="Recipe file (TOML), e.g. services/pretrain/recipes/moco-sn.toml.",
)
data_option = click.option(
    "--data",
    envvar="REAAS_DATA",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the data sets' files, cifar10.npz among them (or set REAAS_DATA).",
)
source_option = click.option(
    "--source",
    default=SOURCE,
    show_default=True,
    help=f"What to learn from: {', '.join(SOURCES)}, a folder of image files or a .npz file.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the arithmetic; default: all cores."
)


FAILURES = (
    RecipeError,
    ImagesError,
    CheckpointError,
    DivergedError,
    PublishError,
    TensorBoardUnavailableError,
)


class _Failures(click.Group):
    """Turns the package's own errors into one line and exit code 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except FAILURES as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Failures)
def main() -> None:
    """Pre-trains encoders without labels: MoCo, plain or with a spectral-norm term."""


@main.command()
@recipe_option
@data_option
@source_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=math.inf,
    help="End after this time at the latest, with the schedule completed (not bit-reproducible).",
)
@threads_option
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)
@click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard too, to --out.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
def train(
    recipe_path: Path,
    data: Path,
    source: str,
    out: Path,
    epochs: int | None,
    max_seconds: float,
    threads: int | None,
    device: str,
    tensorboard: bool,
    resume: bool,
) -> None:
    """Trains a recipe; checkpoints and log.csv go to --out.

    Started by torchrun, the processes share each batch, and compute what one would.
    """
    recipe = _recipe(recipe_path, epochs)
    _use_threads(threads)
    if not resume and (out / CHECKPOINT).exists():
        raise CheckpointError(
            f"{out} has a checkpoint: go on with --resume or choose another --out"
        )
    chosen, side = _device(device), recipe.encoder.image_size
    console.print(f"reading images from {data}")
    learned = training_images(source, data, side)
    with torchrun_group(chosen) as group, progress_bars(console) as progress:
        trainer = Trainer(
            recipe,
            learned.images,
            out,
            labels=learned.labels,
            data=f"{source} train, {len(learned):,} images at {side}x{side}",
            monitor=_monitor(data, side),
            watchers=_watchers(group, progress, out, tensorboard),
            max_seconds=max_seconds,
            group=group,
            device=chosen,
        )
        if resume:
            trainer.resume()
        trainer.run()
    console.print(f"done: {trainer.epoch} epochs, {trainer.step} steps, results in {out}")


@main.command()
@click.option("--run", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--models", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--version", required=True, help="A version is published once and never changes.")
@data_option
@click.option("--replace", is_flag=True, help="Replace an unreleased version.")
@threads_option
def export(
    run: Path, models: Path, version: str, data: Path, replace: bool, threads: int | None
) -> None:
    """Publishes a run's encoder into the model repository, with certified constants."""
    _use_threads(threads)
    side = parse_recipe(Checkpoint.load(run).recipe, origin=str(run)).encoder.image_size
    _, typical = labelled_images(SOURCE, data, side)
    near, far = labelled_images(JUDGED_ON, data, side)
    with console.status("exporting, certifying, measuring"):
        done = publish(run, models, version, typical.images, near, far, replace=replace)
    certified, quality = done.manifest["certified"], done.manifest["quality"]
    console.print(f"published {done.directory}  {done.digest}")
    console.print(f"ONNX Runtime differs from torch by at most {done.onnx_difference:.2g}")
    console.print(f"Lipschitz constant {certified['lipschitz']:.4g} ({certified['method']})")
    console.print("  ".join(f"{key} {value}" for key, value in quality.items()))


@main.command("search")
@recipe_option
@data_option
@click.option("--images", "count", type=click.IntRange(min=1), default=20_000, show_default=True)
@click.option("--epochs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--change",
    "wanted",
    multiple=True,
    help="What to change, e.g. 'contrast.temperature = 0.1; schedule.batch = 512'; may be repeated."
    " Default: the changes that are usual for the recipe.",
)
@threads_option
def search_command(
    recipe_path: Path,
    data: Path,
    count: int,
    epochs: int,
    wanted: tuple[str, ...],
    threads: int | None,
) -> None:
    """Short runs around a recipe, one change at a time; prints the table of recipes/SEARCH.md."""
    base = load_recipe(recipe_path)
    changes = tuple(Change(text) for text in wanted) or usual_changes(base)
    for change in changes:  # what can't be run is said before anything is
        change.applied(base)
    _use_threads(threads)
    console.print(f"reading images from {data}")
    side = base.encoder.image_size
    images, head = training_images(SOURCE, data, side), labelled_images(JUDGED_ON, data, side)
    rows = []
    runs = search(base, images.images, head, count, epochs, changes)
    for row in track(runs, "short runs", total=len(changes), console=console):
        console.print(f"{row.label}: {row.quality}")
        rows.append(row)
    click.echo(search_table(rows))


def _use_threads(threads: int | None) -> None:
    if threads:
        torch.set_num_threads(threads)


def _recipe(path: Path, epochs: int | None) -> Recipe:
    recipe = load_recipe(path)
    if epochs is None:
        return recipe
    schedule = recipe.schedule.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"schedule": schedule})


def _device(name: str) -> torch.device:
    """`auto`: a GPU where there is one; under torchrun every process has its own."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise click.UsageError("--device cuda: torch sees no CUDA device here")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _monitor(data: Path, side: int) -> Monitor:
    near, far = labelled_images(JUDGED_ON, data, side)
    return Monitor(near.head(MONITOR_TRAIN), far.head(MONITOR_TEST))


def _watchers(
    group: Group, progress: Progress, out: Path, tensorboard: bool
) -> tuple[Watcher, ...]:
    """Only the first process of a group reports."""
    if group.rank:
        return ()
    return (Bars(progress), TensorBoard(out)) if tensorboard else (Bars(progress),)


if __name__ == "__main__":
    main()
