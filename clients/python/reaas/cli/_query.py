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
from reaas.cli._images import batches, images_argument, read_images

# Inputs between two steps of the progress bar.
_ENCODE_STEP, _PERTURB_STEP = 256, 16


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
    help="For the features: .npz with `features` [n,d], `names`, `model`.",
)
@click.option(
    "--phase",
    type=click.Choice([phase.value for phase in reaas.Phase]),
    default="test",
    help="Metered as this.",
)
@pass_settings
def encode(settings: Settings, files: tuple[Path, ...], model: str, out: Path, phase: str) -> None:
    """Features of images: one query each."""
    images = read_images(files)
    parts = list(batches(images, _ENCODE_STEP))
    with settings.connect() as client, progress_bar() as bar:
        ref = client.model(model).ref
        task = bar.add_task("encoding", total=len(images))
        pixels = (part.pixels for part in parts)
        answers = client.encode_stream(pixels, ref, phase=phase)
        features: dict[int, Any] = {}
        for part, answer in zip(parts, answers, strict=True):
            features.update(zip(part.places.tolist(), answer.values, strict=True))
            bar.advance(task, len(answer))
    values = np.stack([features[place] for place in range(len(images))])  # [n, d]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("wb") as file:
        np.savez(file, features=values, names=[image.name for image in images], model=str(ref))
    rows = [
        {"file": str(out), "images": len(values), "feature_dim": values.shape[1], "model": str(ref)}
    ]
    settings.print("Features", rows)


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
@pass_settings
def radius(
    settings: Settings,
    files: tuple[Path, ...],
    model: str,
    feature_radius: float,
    method: str,
    max_steps: int,
    tolerance: float,
) -> None:
    """Image-space certified radii R of images from a feature-space one R': one query each."""
    images = read_images(files)
    rows: dict[int, dict[str, Any]] = {}
    with settings.connect() as client, progress_bar() as bar:
        ref = client.model(model, service="f2i").ref
        task = bar.add_task("bounding", total=len(images))
        for part in batches(images, _PERTURB_STEP):
            answer = client.perturb(
                part.pixels,
                np.full(len(part.pixels), feature_radius),
                ref,
                method,
                max_steps=max_steps,
                relative_tolerance=tolerance,
            )
            for index, place in enumerate(part.places.tolist()):
                rows[place] = {
                    "image": images[place].name,
                    "feature_radius": feature_radius,
                    "radius": float(answer.radius[index]),
                    "method": str(answer.method[index]),
                    "upper": float(answer.upper[index]),
                    "steps": int(answer.steps[index]),
                    "converged": bool(answer.converged[index]),
                }
            bar.advance(task, len(part.pixels))
    ordered = [rows[place] for place in range(len(images))]
    settings.print(f"Image-space certified radii R (L2) by {ref}", ordered, model=asdict(ref))
