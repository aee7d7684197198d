"""The command certify: labels and certified radii of images and folders of images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from reaas.certify import DownstreamClassifier, SmoothingConfig
from reaas.cli._book import Book, Certified, job_digest
from reaas.cli._certify_job import Job, Method
from reaas.cli._context import Settings, model_option, pass_settings, progress_bar
from reaas.cli._fit import chosen_decoding, chosen_fit, decode_options, parse_resize
from reaas.cli._images import (
    NamedImage,
    Skipped,
    check_readable,
    find_files,
    images_argument,
    read_images,
)
from reaas.cli._outputs import check_writable
from reaas.cli._page import Page, thumbnail
from reaas.cli._summary import summary, summary_line
from reaas.schemes import ReaasScheme

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUT = click.Path(dir_okay=False, path_type=Path)


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
    "--csv",
    "csv_file",
    type=_OUT,
    help="Write each certificate here as soon as it is paid, instead of a table at the end. The "
    "same command goes on where it was cut off, and pays nothing twice.",
)
@click.option(
    "--report", type=_OUT, help="Write a page to look at (HTML, one file): pictures, curves."
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
@decode_options()
@pass_settings
@click.pass_context
def certify(
    ctx: click.Context,
    settings: Settings,
    files: tuple[Path, ...],
    model: str,
    classifier_file: Path,
    csv_file: Path | None,
    report: Path | None,
    method: str,
    target: str,
    sigma: float | None,
    samples: int,
    alpha: float,
    seed: int,
    resize: str | None,
    background: str | None,
    first_frame: bool,
) -> None:
    """Labels of images, and how far each image may be changed: two queries each.

    R' (or margins) is certified here, in feature space; the F2I service carries it to the image, R.
    Images are files or folders; the folders' own folders are taken for classes. A classifier of
    another encoder is refused. Files that cannot be used are skipped and listed.
    """
    if method != "crown" and target == "margin":
        raise click.UsageError(f"--target margin needs --method crown, got {method}")
    if method == "smoothing" and sigma is None:
        raise click.UsageError("--method smoothing needs --sigma")
    parse_resize(resize)
    smoothing = SmoothingConfig(sigma, n=samples, alpha=alpha) if sigma is not None else None
    options, found, skipped = chosen_decoding(background, first_frame), find_files(files), Skipped()
    check_readable(found, options)
    classifier = DownstreamClassifier.load(classifier_file)
    for option, file in (("--csv", csv_file), ("--report", report)):
        if file is not None:
            check_writable(option, file)
    names: dict[int, str] = {}
    thumbnails: dict[int, str] = {}
    with settings.connect() as client, progress_bar() as bar:
        scheme = ReaasScheme(client, model)
        info = client.model(scheme.model)
        _check_classifier(scheme, classifier, classifier_file, info.feature_dim)
        how = {"method": method, "target": target}
        if method == "smoothing":
            how |= {"sigma": str(sigma), "n": str(samples), "a": str(alpha), "seed": str(seed)}
        digest = job_digest(scheme.model, classifier, **how)
        book = Book(csv_file, str(scheme.model), digest)
        if book.found:
            click.echo(f"reaas: {book.found} images are certified already ({csv_file})", err=True)
        fit, task = chosen_fit(info, resize), bar.add_task("certifying", total=len(found))
        _check_resize(classifier, fit.stated)

        def each(image: NamedImage) -> None:
            names[image.place] = image.name
            if report is not None:
                thumbnails[image.place] = thumbnail(image.pixels)
            bar.advance(task)

        way = Method(method, target, smoothing, seed)
        job = Job(scheme, classifier, way, book, csv_file, fit.stated, each)
        job.run(read_images(found, fit, options, skipped))
        paid = client.ledger.totals().queries
    if not job.results:
        skipped.refuse()
    places = sorted(job.results)
    certified = [job.results[place] for place in places]
    facts = summary(certified, len(skipped.reasons), paid)
    title = f"Certified radii (L2) by {method} and {scheme.model}{fit.sentence}"
    if report is not None:
        page = Page(title, facts, certified, [thumbnails[p] for p in places], skipped.reasons)
        page.write(report)
    rows = [_row(names[place], job.results[place], classifier) for place in places]
    about = {"model": asdict(scheme.model), "summary": facts, **fit.about(), **skipped.about()}
    if settings.as_json or csv_file is None:
        settings.print(title, rows, **about)
    if not settings.as_json:
        click.echo(summary_line(facts, str(scheme.model)) + fit.sentence)
    skipped.end(ctx)


def _check_classifier(
    scheme: ReaasScheme, classifier: DownstreamClassifier, file: Path, feature_dim: int
) -> None:
    scheme.check(classifier)
    classifier.check_features(np.zeros((1, feature_dim)))
    if not classifier.encoder_digest:
        click.echo(f"reaas: {file} does not say which encoder it was trained on", err=True)


def _check_resize(classifier: DownstreamClassifier, resize: str) -> None:
    """The labels may be worse for other pixels; the certificates hold all the same."""
    if classifier.encoder_digest and classifier.resize != resize:
        trained, now = classifier.resize or "none", resize or "none"
        click.echo(
            f"reaas: the classifier was trained on images resized by: {trained}; now: {now}",
            err=True,
        )


def _row(name: str, found: Certified, classifier: DownstreamClassifier) -> dict[str, Any]:
    label = None if found.label is None else classifier.names.index(found.label)
    row: dict[str, Any] = {"image": name, "label": label}
    if classifier.class_names:
        row |= {"class": found.label, "right": found.right}
    return row | {
        "feature_radius": found.feature_radius,
        "radius": found.radius,
        "bound": found.bound,
    }
