"""The command train-head: a classifier on features, with its held-out score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import numpy as np
from click.core import ParameterSource
from numpy.typing import NDArray

import reaas
from reaas.certify import DownstreamClassifier
from reaas.cli._context import Settings, model_option, pass_settings, progress_bar
from reaas.cli._fit import Fit, chosen_decoding, chosen_fit, decode_options, parse_resize
from reaas.cli._images import NamedImage, Sent, Skipped, batches, check_readable
from reaas.cli._interrupt import paid_steps
from reaas.cli._journal import open_journal
from reaas.cli._labels import held_out_rows, numbered
from reaas.cli._outputs import check_writable, write_file
from reaas.cli._query import ENCODE_STEP
from reaas.cli._score import held_out_score, score_line
from reaas.cli._training_data import LabelledArrays, LabelledFolder, TrainingData
from reaas.images import DecodeOptions

if TYPE_CHECKING:
    from reaas.train import HeadConfig, Objective


@click.command("train-head")
@click.argument("source", metavar="FOLDER|FILE.npz", type=click.Path(exists=True, path_type=Path))
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
@click.option(
    "--held-out",
    type=click.FloatRange(0.0, 0.9),
    default=0.2,
    help="Share of each class that the score is measured on, and that is not trained on.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of the training.")
@decode_options()
@pass_settings
@click.pass_context
def train_head(
    ctx: click.Context,
    settings: Settings,
    source: Path,
    model: str,
    out: Path,
    objective: str,
    sigma: float | None,
    hidden: tuple[int, ...],
    held_out: float,
    seed: int,
    resize: str | None,
    background: str | None,
    first_frame: bool,
) -> None:
    """Trains a downstream classifier on the features of labelled images: one query each.

    FOLDER has one folder of images for each class. FILE.npz has `labels` [n], numbers or words,
    and `images` [n,h,w,c], or `features` [n,d] from encode: no query. Features are kept in
    OUT.features: after a failure, or for another training, nothing is paid twice. Needs the extra
    `train`.
    """
    if objective == "noise" and sigma is None:
        raise click.UsageError("--objective noise needs --sigma")
    try:
        from reaas.train import HeadConfig
    except ImportError as error:
        raise click.UsageError(str(error)) from error
    parse_resize(resize)
    chosen = cast("Objective", objective)
    config = HeadConfig(objective=chosen, noise_sigma=sigma, hidden=hidden, seed=seed)
    options, skipped = chosen_decoding(background, first_frame), Skipped()
    found = LabelledFolder.find(source, skipped) if source.is_dir() else LabelledArrays.load(source)
    if isinstance(found, LabelledFolder):
        check_readable(found.files, options)
    check_writable("--out", out)
    named = ctx.get_parameter_source("model") is not ParameterSource.DEFAULT
    with settings.connect() as client:
        if isinstance(found, LabelledArrays) and found.images is None:
            data = found.data(client.model(found.encoder(model if named else None)))
        else:
            fit = chosen_fit(client.model(model), resize)
            data = _encoded(client, found, fit, options, skipped, out)
    held = held_out_rows(data.labels, held_out, seed)  # [n]
    classifier = _trained(data, ~held, config)
    write_file(out, classifier.save)
    _report(settings, out, data, classifier, held, skipped)
    skipped.end(ctx)


def _encoded(
    client: reaas.Client,
    found: LabelledFolder | LabelledArrays,
    fit: Fit,
    options: DecodeOptions,
    skipped: Skipped,
    out: Path,
) -> TrainingData:
    """Features of the images: one query for each that is not in the journal."""
    ref, images, rows = fit.model.ref, list[Sent](), list[NDArray[np.float32]]()
    reading: Iterable[NamedImage]
    if isinstance(found, LabelledFolder):
        reading, total = found.read(fit, options, skipped), len(found.files)
    else:
        reading, total = found.read(fit), len(found.labels)
    with progress_bar() as bar, open_journal(out, ref) as journal, paid_steps() as steps:
        task = bar.add_task("encoding", total=total)
        for part in steps(batches(reading, ENCODE_STEP)):
            rows += list(
                journal.features(part, lambda x: client.encode(x, ref, phase="train").values)
            )
            images += map(Sent.of, part)
            bar.advance(task, len(part))
    if not images:
        skipped.refuse()
    order = np.argsort([image.place for image in images])
    labels, names = numbered(
        "the images that are left", [images[place].folder for place in order], len(images)
    )
    if isinstance(found, LabelledArrays):  # Their own order of classes: 10 is after 9.
        labels, names = found.labels, found.names
    own = all(image.shape == fit.model.input.shape for image in images)
    features = np.stack([rows[place] for place in order])
    return TrainingData(features, labels, names, fit.model, fit.stated, own)


def _trained(
    data: TrainingData, training: NDArray[np.bool_], config: HeadConfig
) -> DownstreamClassifier:
    from reaas.train import train_head as train

    with progress_bar() as bar:
        task = bar.add_task("training", total=config.epochs)
        classifier = train(
            data.features[training],
            data.labels[training],
            config,
            progress=lambda done, _: bar.update(task, completed=done),
        )
    return replace(
        classifier, class_names=data.names, encoder=str(data.model.ref), resize=data.resize
    )


def _report(
    settings: Settings,
    out: Path,
    data: TrainingData,
    classifier: DownstreamClassifier,
    held: NDArray[np.bool_],
    skipped: Skipped,
) -> None:
    right = classifier.predict(data.features) == data.labels  # [n]
    score = held_out_score(data, classifier, held) if held.any() else None
    row = {
        "file": str(out),
        "images": len(data.labels),
        "classes": classifier.classes,
        "training_accuracy": float(np.mean(right[~held])),
        "held_out_accuracy": score["accuracy"] if score else None,
        "held_out_images": int(held.sum()),
        "model": str(data.model.ref),
    }
    about = {"class_names": data.names, "held_out": score, **skipped.about()}
    settings.print("Downstream classifier", [row], **about)
    if score and not settings.as_json:
        click.echo(score_line(score))
