"""The commands about the client's own classifier: certify, train-head."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np
from numpy.typing import NDArray

import reaas
from reaas.certify import ABSTAIN, DownstreamClassifier, SmoothingConfig
from reaas.cli._context import Settings, model_option, pass_settings, progress_bar
from reaas.cli._images import batches, image_stack, images_argument, read_arrays, read_images
from reaas.schemes import ImageCertificates, ReaasScheme

if TYPE_CHECKING:
    from reaas.train import Objective

_STEP = 64  # Inputs between two steps of the progress bar.
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@images_argument()
@model_option()
@click.option(
    "--classifier",
    "classifier_file",
    required=True,
    type=_FILE,
    help="Downstream classifier on the features (.npz), for example from train-head.",
)
@click.option(
    "--method",
    type=click.Choice(["crown", "ibp", "smoothing"]),
    default="crown",
    help="How the classifier is certified: crown, ibp (base), smoothing (smoothed).",
)
@click.option(
    "--target",
    type=click.Choice(["ball", "margin"]),
    default="ball",
    help="crown: what the F2I service is told, R' alone, or the borders around each feature "
    "(mostly a larger R; the service learns more about the classifier).",
)
@click.option(
    "--sigma",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Smoothing: noise on the feature; the one that the classifier was trained with.",
)
@click.option("--samples", type=click.IntRange(min=1), default=100_000, help="Smoothing: n.")
@click.option(
    "--alpha",
    type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    default=0.001,
    help="Smoothing: failure probability for each image.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Smoothing: of the noise.")
@pass_settings
def certify(
    settings: Settings,
    files: tuple[Path, ...],
    model: str,
    classifier_file: Path,
    method: str,
    target: str,
    sigma: float | None,
    samples: int,
    alpha: float,
    seed: int,
) -> None:
    """Labels of images, and how far each image may be changed: two queries each.

    R' (or margins) is certified here, in feature space; the F2I service carries it to the image, R.
    """
    if method != "crown" and target == "margin":
        raise click.UsageError(f"--target margin needs --method crown, got {method}")
    if method == "smoothing" and sigma is None:
        raise click.UsageError("--method smoothing needs --sigma")
    smoothing = SmoothingConfig(sigma, n=samples, alpha=alpha) if sigma is not None else None
    images, classifier = read_images(files), DownstreamClassifier.load(classifier_file)
    rows: dict[int, dict[str, Any]] = {}
    with settings.connect() as client, progress_bar() as bar:
        scheme = ReaasScheme(client, model)
        task = bar.add_task("certifying", total=len(images))
        for part in batches(images, _STEP):

            def advance(count: int) -> None:
                bar.advance(task, count)

            if method == "smoothing" and smoothing is not None:
                found = scheme.certify_smoothed(
                    part.pixels, classifier, smoothing, seed=seed, advance=advance
                )
            else:
                found = scheme.certify_base(
                    part.pixels,
                    classifier,
                    "ibp" if method == "ibp" else "crown",
                    target="margin" if target == "margin" else "ball",
                    advance=advance,
                )
            for index, place in enumerate(part.places.tolist()):
                rows[place] = {"image": images[place].name, **_row(found, index)}
    ordered = [rows[place] for place in range(len(images))]
    ref = scheme.model
    settings.print(f"Certified radii (L2) by {method} and {ref}", ordered, model=asdict(ref))


def _row(found: ImageCertificates, index: int) -> dict[str, Any]:
    label, certified = int(found.labels[index]), float(found.radii[index])
    bound = found.methods[index] if found.methods and certified > 0 else None
    return {
        "label": None if label == ABSTAIN else label,
        "feature_radius": None
        if found.feature_radii is None
        else float(found.feature_radii[index]),
        "radius": certified,
        "bound": bound,
    }


@click.command("train-head")
@click.argument("file", metavar="IMAGES.npz", type=_FILE)
@model_option()
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="For the classifier (.npz).",
)
@click.option(
    "--objective",
    type=click.Choice(["plain", "margin", "noise"]),
    default="margin",
    help="plain accuracy; a large certified margin (for crown, ibp); noise (for smoothing).",
)
@click.option(
    "--sigma",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Objective noise: its standard deviation on the feature.",
)
@click.option(
    "--hidden", type=click.IntRange(min=1), multiple=True, help="Width of a hidden layer; repeat."
)
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of the training.")
@pass_settings
def train_head(
    settings: Settings,
    file: Path,
    model: str,
    out: Path,
    objective: str,
    sigma: float | None,
    hidden: tuple[int, ...],
    seed: int,
) -> None:
    """Trains a downstream classifier on the features of labelled images: one query each.

    IMAGES.npz has `images` [n,h,w,c] and `labels` [n], 0 and up. Needs the extra `train`.
    """
    if objective == "noise" and sigma is None:
        raise click.UsageError("--objective noise needs --sigma")
    try:
        from reaas.train import HeadConfig
        from reaas.train import train_head as train
    except ImportError as error:
        raise click.UsageError(str(error)) from error
    images, labels = _read_labelled(file)
    chosen = cast("Objective", objective)
    config = HeadConfig(objective=chosen, noise_sigma=sigma, hidden=hidden, seed=seed)
    with settings.connect() as client:
        ref = client.model(model).ref
        phase = reaas.Phase.TRAIN
        features = client.encode(images, ref, phase=phase).values
    classifier = train(features, labels, config)
    out.parent.mkdir(parents=True, exist_ok=True)
    classifier.save(out)
    row = {
        "file": str(out),
        "images": len(labels),
        "classes": classifier.classes,
        "training_accuracy": float(np.mean(classifier.predict(features) == labels)),
        "model": str(ref),
    }
    settings.print("Downstream classifier", [row])


def _read_labelled(file: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Images [n, h, w, c] and labels [n] of a .npz file."""
    arrays = read_arrays(file)
    images, labels = image_stack(file, arrays), arrays.get("labels")
    if labels is None or labels.shape != (len(images),) or labels.dtype.kind not in "iu":
        got = "none" if labels is None else f"{labels.dtype} {labels.shape}"
        raise reaas.InvalidArgumentError(
            f"{file}: labels is {got}; it must be whole numbers, one for each of "
            f"{len(images)} images",
            field="labels",
            got=got,
        )
    return images, labels.astype(np.int64)
