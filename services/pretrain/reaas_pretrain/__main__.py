"""`python -m reaas_pretrain`: train, export and search recipes."""

from __future__ import annotations

import math
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    track,
)

from reaas_pretrain.checkpoint import CHECKPOINT, CheckpointError
from reaas_pretrain.images import (
    ImagesError,
    load_cifar10,
    load_tiny_imagenet,
    load_tiny_imagenet_validation,
)
from reaas_pretrain.publishing import PublishError, publish
from reaas_pretrain.recipe import RecipeError, load_recipe
from reaas_pretrain.search import POINTS, search, search_table
from reaas_pretrain.train import DivergedError, Monitor, Trainer

DATA_NAME = "Tiny-ImageNet-200 train, 100,000 images at 32x32, no labels"
MONITOR_TRAIN, MONITOR_TEST = 5_000, 1_000
"""Enough for a standard error of 1.5 % in seconds; the published figures use all images."""

console = Console()
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
    help="Directory with tiny_imagenet.npz and cifar10.npz (or set REAAS_DATA).",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the arithmetic; default: all cores."
)


class _Failures(click.Group):
    """Turns the package's own errors into one line and exit code 1."""

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except (RecipeError, ImagesError, CheckpointError, DivergedError, PublishError) as error:
            raise click.ClickException(str(error)) from error


class _Bars:
    """A bar for the run and a line for every epoch."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.task = progress.add_task("training", total=1.0, loss=math.nan)

    def stepped(self, step: int, progress: float, loss: float) -> None:
        self.progress.update(self.task, completed=progress, loss=loss)

    def finished_epoch(self, row: dict[str, float]) -> None:
        parts = [f"epoch {row['epoch']:.0f}", f"loss {row['loss']:.3f}"]
        parts += [f"norm product {row['sigma_product']:.3g}", f"spread {row['spread']:.3g}"]
        parts += [f"{row['images_per_second']:.0f} images/s"]
        if "knn_top1" in row:
            parts.append(f"k-NN {row['knn_top1']:.1%}")
        self.progress.console.print("  ".join(parts))


@click.group(cls=_Failures)
def main() -> None:
    """Pre-trains encoders without labels: MoCo, plain or with a spectral-norm term."""


@main.command()
@recipe_option
@data_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=math.inf,
    help="End after this time at the latest, with the schedule completed (not bit-reproducible).",
)
@threads_option
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
def train(
    recipe_path: Path,
    data: Path,
    out: Path,
    epochs: int | None,
    max_seconds: float,
    threads: int | None,
    resume: bool,
) -> None:
    """Trains a recipe; checkpoints and log.csv go to --out."""
    recipe = load_recipe(recipe_path)
    if epochs:
        schedule = recipe.schedule.model_copy(update={"epochs": epochs})
        recipe = recipe.model_copy(update={"schedule": schedule})
    _use_threads(threads)
    if not resume and (out / CHECKPOINT).exists():
        raise CheckpointError(
            f"{out} has a checkpoint: go on with --resume or choose another --out"
        )
    console.print(f"reading images from {data}")
    images, (near, far) = load_tiny_imagenet(data), load_cifar10(data)
    with _progress() as progress:
        trainer = Trainer(
            recipe,
            images.images,
            out,
            data=DATA_NAME,
            monitor=Monitor(near.head(MONITOR_TRAIN), far.head(MONITOR_TEST)),
            watcher=_Bars(progress),
            max_seconds=max_seconds,
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
    typical = load_tiny_imagenet_validation(data).images
    near, far = load_cifar10(data)
    with console.status("exporting, certifying, measuring"):
        done = publish(run, models, version, typical, near, far, replace=replace)
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
@threads_option
def search_command(
    recipe_path: Path, data: Path, count: int, epochs: int, threads: int | None
) -> None:
    """Short runs around a recipe, one change at a time; prints the table of recipes/SEARCH.md."""
    base = load_recipe(recipe_path)
    _use_threads(threads)
    console.print(f"reading images from {data}")
    images, head = load_tiny_imagenet(data), load_cifar10(data)
    rows = []
    runs = search(base, images.images, head, count, epochs)
    for row in track(runs, "short runs", total=len(POINTS), console=console):
        console.print(f"{row.label}: {row.quality}")
        rows.append(row)
    click.echo(search_table(rows))


def _use_threads(threads: int | None) -> None:
    if threads:
        torch.set_num_threads(threads)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        console=console,
    )


if __name__ == "__main__":
    main()
