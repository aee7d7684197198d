"""The commands that are one query: models, encode, radius."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

import reaas
from reaas._target import BALL_METHODS
from reaas.cli._context import Settings, model_option, pass_settings, progress_bar, rounded
from reaas.cli._fit import chosen_decoding, chosen_fit, decode_options, parse_resize
from reaas.cli._images import (
    Sent,
    Skipped,
    batches,
    check_readable,
    find_files,
    images_argument,
    read_images,
    stacked,
)
from reaas.cli._interrupt import paid_steps
from reaas.cli._journal import open_journal
from reaas.cli._outputs import check_writable, write_file

# Inputs of one message, and between two steps of the progress bar.
ENCODE_STEP, _PERTURB_STEP = 32, 16


@click.command()
@pass_settings
def models(settings: Settings) -> None:
    """Lists the encoders that the service has."""
    with settings.connect() as client:
        found = client.models()
    if settings.as_json:
        settings.print("", [asdict(model) for model in found])
        return
    settings.print("Encoders", [_model_row(model) for model in found])


def _model_row(model: reaas.ModelInfo) -> dict[str, Any]:
    return {
        "model": f"{model.ref.name}@{model.ref.version}",
        "latest": model.latest,
        "digest": f"{model.ref.digest[:19]}...",
        "input": "x".join(map(str, model.input.shape)),
        "feature_dim": model.feature_dim,
        "lipschitz": rounded(model.constants.lipschitz, up=True),
        "description": model.description,
    }


@click.command()
@images_argument()
@model_option()
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="For the features: .npz with `features` [n,d], `names`, `model`, and `labels` where all "
    "images lie in class folders. train-head takes it.",
)
@click.option(
    "--phase",
    type=click.Choice([phase.value for phase in reaas.Phase]),
    default="test",
    help="Metered as this.",
)
@decode_options()
@pass_settings
@click.pass_context
def encode(
    ctx: click.Context,
    settings: Settings,
    files: tuple[Path, ...],
    model: str,
    out: Path,
    phase: str,
    resize: str | None,
    background: str | None,
    first_frame: bool,
) -> None:
    """Features of images and folders of images: one query each.

    What is paid is kept in OUT.features until OUT is written: the same command goes on from there.
    """
    parse_resize(resize)
    options, found, skipped = chosen_decoding(background, first_frame), find_files(files), Skipped()
    check_readable(found, options)
    check_writable("--out", out)
    images: dict[int, Sent] = {}
    features: dict[int, Any] = {}
    with settings.connect() as client, progress_bar() as bar, paid_steps() as steps:
        info = client.model(model)
        fit, task = chosen_fit(info, resize), bar.add_task("encoding", total=len(found))
        with open_journal(out, info.ref) as journal:
            reading = read_images(found, fit, options, skipped)
            for part in steps(batches(reading, ENCODE_STEP)):
                values = journal.features(
                    part, lambda x: client.encode(x, info.ref, phase=phase).values
                )
                images |= {image.place: Sent.of(image) for image in part}
                features |= zip([image.place for image in part], values, strict=True)
                bar.advance(task, len(part))
    if not images:
        skipped.refuse()
    ordered = [images[place] for place in sorted(images)]
    values = np.stack([features[image.place] for image in ordered])  # [n, d]
    arrays = _feature_file(ordered, fit.stated) | {"features": values, "model": str(info.ref)}

    def write(file: Path) -> None:
        with file.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)

    write_file(out, write)
    journal.close(remove=True)
    ref = str(info.ref)
    row = {"file": str(out), "images": len(values), "feature_dim": values.shape[1], "model": ref}
    settings.print("Features", [row], **skipped.about())
    skipped.end(ctx)


def _feature_file(images: list[Sent], resize: str) -> dict[str, Any]:
    """What a file of features says about its images."""
    arrays: dict[str, Any] = {
        "names": [image.name for image in images],
        "shapes": [image.shape for image in images],
        "resize": resize,
    }
    if all(image.folder is not None for image in images):
        arrays["labels"] = [image.folder for image in images]
    return arrays


@click.command()
@images_argument()
@model_option()
@click.option(
    "--feature-radius",
    required=True,
    type=click.FloatRange(min=0.0, min_open=True),
    help="Feature-space certified radius R' of each image.",
)
@click.option(
    "--method",
    type=click.Choice([method.value for method in BALL_METHODS]),
    default="auto",
    help="Bound to use.",
)
@click.option(
    "--max-steps", type=click.IntRange(min=0), default=0, help="Of the search; 0: the service's."
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0.0, 1.0, max_open=True),
    default=0.0,
    help="Relative, of the search; 0: the service's.",
)
@decode_options()
@pass_settings
@click.pass_context
def radius(
    ctx: click.Context,
    settings: Settings,
    files: tuple[Path, ...],
    model: str,
    feature_radius: float,
    method: str,
    max_steps: int,
    tolerance: float,
    resize: str | None,
    background: str | None,
    first_frame: bool,
) -> None:
    """Image-space certified radii R of images from a feature-space one R': one query each."""
    parse_resize(resize)
    options, found, skipped = chosen_decoding(background, first_frame), find_files(files), Skipped()
    check_readable(found, options)
    rows: dict[int, dict[str, Any]] = {}
    with settings.connect() as client, progress_bar() as bar:
        info = client.model(model, service="f2i")
        fit, task = chosen_fit(info, resize), bar.add_task("bounding", total=len(found))
        for part in batches(read_images(found, fit, options, skipped), _PERTURB_STEP):
            answer = client.perturb(
                stacked(part),
                np.full(len(part), feature_radius),
                info.ref,
                method,
                max_steps=max_steps,
                relative_tolerance=tolerance,
            )
            for index, image in enumerate(part):
                rows[image.place] = {
                    "image": image.name,
                    "feature_radius": feature_radius,
                    "radius": float(answer.radius[index]),
                    "method": str(answer.method[index]),
                    "upper": float(answer.upper[index]),
                    "steps": int(answer.steps[index]),
                    "converged": bool(answer.converged[index]),
                }
            bar.advance(task, len(part))
    if not rows:
        skipped.refuse()
    ordered = [rows[place] for place in sorted(rows)]
    title = f"Image-space certified radii R (L2) by {info.ref}{fit.sentence}"
    settings.print(title, ordered, model=asdict(info.ref), **fit.about(), **skipped.about())
    skipped.end(ctx)
