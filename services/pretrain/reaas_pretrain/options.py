"""What the commands of `python -m reaas_pretrain` have in common: options, and what they mean."""

from __future__ import annotations

import os
from pathlib import Path

import click
import torch
from reaas.datasets import NAMES
from rich.console import Console

from reaas_pretrain.evaluate import Judge
from reaas_pretrain.images import SOURCES, labelled_images
from reaas_pretrain.inside import check_tree
from reaas_pretrain.recipe import Recipe

SOURCE = "tiny_imagenet"
"""What the shipped encoders learned from."""
JUDGED_BY = "cifar10"
"""What their quality is measured on."""
NOBODY = "none"

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
    help="Directory of the data sets' files (or set REAAS_DATA).",
)
source_option = click.option(
    "--source",
    default=SOURCE,
    show_default=True,
    help=f"What is learned from: {', '.join(SOURCES)}, a folder of image files or a .npz file.",
)
inside_option = click.option(
    "--inside",
    type=click.Path(path_type=Path, file_okay=False),
    help="Read no images from outside of this directory, whatever links lead there.",
)
judge_option = click.option(
    "--judged-by",
    type=click.Choice([*NAMES, NOBODY]),
    help=f"Labelled data set that quality is measured on. Default: {JUDGED_BY}, if --data has it.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of the arithmetic; default: all cores."
)
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)


def check_inside(inside: Path | None, data: Path, source: str) -> None:
    """Raises OutsideError where images would be read from outside of `inside`; None: anywhere."""
    if inside is not None:
        check_tree(data, inside)
        if source not in SOURCES:
            check_tree(Path(source), inside)


def use_threads(threads: int | None) -> None:
    """As many threads as asked for."""
    if threads:
        torch.set_num_threads(threads)


def with_epochs(recipe: Recipe, epochs: int | None) -> Recipe:
    """The recipe, with another number of epochs if one is asked for."""
    if epochs is None:
        return recipe
    schedule = recipe.schedule.model_copy(update={"epochs": epochs})
    return recipe.model_copy(update={"schedule": schedule})


def device_of(name: str) -> torch.device:
    """`auto`: a GPU where there is one; under torchrun every process has its own."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise click.UsageError("--device cuda: torch sees no CUDA device here")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def judge_of(name: str | None, data: Path, side: int) -> Judge | None:
    """The judge that is asked for; without a word, CIFAR-10 if it is there."""
    if name == NOBODY:
        return None
    if name is None and not (data / f"{JUDGED_BY}.npz").is_file():
        console.print(
            f"{data} has no {JUDGED_BY}.npz: accuracy is not measured"
            " (--judged-by names another data set)"
        )
        return None
    return required_judge(name, data, side)


def required_judge(name: str | None, data: Path, side: int) -> Judge:
    """The judge that is asked for, by default CIFAR-10; `ImagesError` if its file is missing."""
    chosen = name or JUDGED_BY
    if chosen == NOBODY:
        raise click.UsageError("--judged-by none: a search needs a judge")
    return Judge(chosen, *labelled_images(chosen, data, side))
