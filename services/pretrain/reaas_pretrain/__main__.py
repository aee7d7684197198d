"""`python -m reaas_pretrain`: trains, times and searches recipes; publishes encoders."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import click
from rich.progress import Progress, track

from reaas_pretrain.bars import Bars, progress_bars
from reaas_pretrain.checkpoint import CHECKPOINT, CheckpointError
from reaas_pretrain.group import Group, torchrun_group
from reaas_pretrain.image_files import ImagesError
from reaas_pretrain.images import training_images
from reaas_pretrain.inside import OutsideError
from reaas_pretrain.log import TensorBoard, TensorBoardUnavailableError, Watcher
from reaas_pretrain.monitor import Monitor
from reaas_pretrain.options import (
    check_inside,
    console,
    data_option,
    device_of,
    device_option,
    inside_option,
    judge_of,
    judge_option,
    recipe_option,
    required_judge,
    source_option,
    threads_option,
    use_threads,
    with_epochs,
)
from reaas_pretrain.recipe import RecipeError, load_recipe
from reaas_pretrain.repository_commands import adopt_command, export_command, recertify_command
from reaas_pretrain.search import Change, search, search_table, usual_changes
from reaas_pretrain.throughput import measure_throughput
from reaas_pretrain.train import DivergedError, Trainer
from reaas_pretrain.versions import PublishError

MONITOR_TRAIN, MONITOR_TEST = 5_000, 1_000
"""Enough for a standard error of 1.5 % in seconds; the published figures use all images."""

FAILURES = (
    RecipeError,
    ImagesError,
    OutsideError,
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
@inside_option
@judge_option
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--epochs", type=click.IntRange(min=1), help="Instead of the recipe's.")
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=math.inf,
    help="End after this time at the latest, with the schedule completed (not bit-reproducible).",
)
@threads_option
@device_option
@click.option("--tensorboard", is_flag=True, help="Write the log for TensorBoard too, to --out.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --out.")
def train(
    recipe_path: Path,
    data: Path,
    source: str,
    inside: Path | None,
    judged_by: str | None,
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
    recipe = with_epochs(load_recipe(recipe_path), epochs)
    use_threads(threads)
    if not resume and (out / CHECKPOINT).exists():
        raise CheckpointError(
            f"{out} has a checkpoint: go on with --resume or choose another --out"
        )
    chosen, side = device_of(device), recipe.encoder.image_size
    check_inside(inside, data, source)
    console.print(f"reading images from {data}")
    learned = training_images(source, data, side)
    judge = judge_of(judged_by, data, side)
    with torchrun_group(chosen) as group, progress_bars(console) as progress:
        trainer = Trainer(
            recipe,
            learned.images,
            out,
            labels=learned.labels,
            data=f"{source} train, {len(learned):,} images at {side}x{side}",
            monitor=Monitor(judge.head(MONITOR_TRAIN, MONITOR_TEST)) if judge else None,
            watchers=_watchers(group, progress, out, tensorboard),
            max_seconds=max_seconds,
            group=group,
            device=chosen,
        )
        if resume:
            trainer.resume()
        trainer.run()
    console.print(f"done: {trainer.epoch} epochs, {trainer.step} steps, results in {out}")


@main.command("search")
@recipe_option
@data_option
@source_option
@judge_option
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
    source: str,
    judged_by: str | None,
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
    use_threads(threads)
    console.print(f"reading images from {data}")
    side = base.encoder.image_size
    images = training_images(source, data, side).images
    judge = required_judge(judged_by, data, side)
    rows = []
    runs = search(base, images, judge, count, epochs, changes)
    for row in track(runs, "short runs", total=len(changes), console=console):
        console.print(f"{row.label}: {row.quality}")
        rows.append(row)
    click.echo(search_table(rows))


@main.command()
@recipe_option
@data_option
@source_option
@click.option("--steps", type=click.IntRange(min=1), default=50, show_default=True)
@threads_option
@device_option
def throughput(
    recipe_path: Path, data: Path, source: str, steps: int, threads: int | None, device: str
) -> None:
    """Images a second of training, and of its forward and backward pass alone; trains nothing."""
    recipe, chosen = load_recipe(recipe_path), device_of(device)
    use_threads(threads)
    console.print(f"reading images from {data}")
    learned = training_images(source, data, recipe.encoder.image_size)
    with torchrun_group(chosen) as group, tempfile.TemporaryDirectory() as nowhere:
        trainer = Trainer(
            recipe, learned.images, Path(nowhere), labels=learned.labels, group=group, device=chosen
        )
        with console.status(f"{steps} steps of each"):
            found = measure_throughput(trainer, steps)
    console.print(
        f"{recipe.name} on {chosen}: {found.loop:,.0f} images/s, forward and backward pass alone"
        f" {found.step:,.0f} images/s, ratio {found.ratio:.2f}"
    )


def _watchers(
    group: Group, progress: Progress, out: Path, tensorboard: bool
) -> tuple[Watcher, ...]:
    """Only the first process of a group reports."""
    if group.rank:
        return ()
    return (Bars(progress), TensorBoard(out)) if tensorboard else (Bars(progress),)


main.add_command(export_command)
main.add_command(adopt_command)
main.add_command(recertify_command)

if __name__ == "__main__":
    main()
