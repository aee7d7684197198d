"""`make bench-f2i`: the F2I engine against attacks, the paper's bound and the clock."""

from __future__ import annotations

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import structlog
import torch
from reaas import ReaasError
from reaas.datasets import DatasetError, load
from reaas_runtime import ModelEntry
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from evaluation.bench_f2i import lirpa
from evaluation.bench_f2i import report as reports
from evaluation.bench_f2i.measure import (
    ALONE,
    BATCH,
    CORES,
    FEWEST,
    Certify,
    Measured,
    measure,
)
from evaluation.bench_f2i.plot import write_plot
from evaluation.bench_f2i.questions import PERCENTILES, Questions, drawn
from evaluation.bench_f2i.report import Report, Row, summed_up
from evaluation.bench_f2i.subject import Subject, UnknownModelError, latest_entries
from evaluation.bench_f2i.table import line, markdown, tables
from evaluation.bench_f2i.targets import METHODS, Target, Way, targets
from evaluation.bench_f2i.throughput import pairs_per_second
from evaluation.interrupt import stop_on_signals
from evaluation.progress import progress_on
from evaluation.services import ServiceError, ServiceProcess, start_service

# The demo's numbers: training inputs of the head, and testing inputs to choose images from.
TRAIN, TEST = {"cifar10": 5000, "digits": 500}, {"cifar10": 1000, "digits": 400}
# Methods that need longer than this for a message of 64 are not put under load.
LOAD_LIMIT_S = 2.0


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar=["DATA", "REAAS_DATA"],
    help="Directory of CIFAR-10's files.  [default: scikit-learn's digits instead]",
)
@click.option("--images", default=100, type=click.IntRange(min=3), help="Images of each encoder.")
@click.option("--seed", default=1, type=click.IntRange(min=0), help="Random seed.")
@click.option(
    "--budget",
    default=10.0,
    type=click.FloatRange(min=0),
    help="Seconds for each method and target; slow methods get fewer images, and more time for "
    "their first 20.",
)
@click.option(
    "--load",
    "load_s",
    default=2.0,
    type=click.FloatRange(min=0),
    help="Seconds under load for each method that is fast enough; 0: none.",
)
@click.option("--model", "models", multiple=True, help="Model to measure.  [default: all]")
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(METHODS),
    help="Method to measure.  [default: all]",
)
@click.option(
    "--models",
    "root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models"),
    help="Model repository.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("out/bench"))
def main(
    data: Path | None,
    images: int,
    seed: int,
    budget: float,
    load_s: float,
    models: tuple[str, ...],
    methods: tuple[str, ...],
    root: Path,
    out: Path,
) -> None:
    """Certified against attacked radii of the latest encoders, by every method."""
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)  # of the services' own classes
    torch.set_num_threads(1)  # so that CPU time is the time of one core
    console = Console(highlight=False)
    stop_on_signals()
    report = Report("cifar10" if data else "digits", images, seed, budget)
    try:
        entries = list(latest_entries(root, models))
        with _service(root, load_s) as service, progress_on(console) as progress:
            _run(Bench(report, frozenset(methods), service, load_s, progress), data, entries)
    except (DatasetError, ServiceError, ReaasError, UnknownModelError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; the service is stopped")
        sys.exit(130)
    for table in tables(report):
        console.print(table)
    report.write(out / "f2i.json")
    (out / "f2i.md").write_text(markdown(report), encoding="utf-8")
    write_plot(report, out / "f2i.png")
    console.print(f"wrote {out / 'f2i.json'}, {out / 'f2i.md'}, {out / 'f2i.png'}")


@dataclass(frozen=True)
class Bench:
    """What every measurement of a run shares; ``methods``: those asked for, all if empty."""

    report: Report
    methods: frozenset[str]
    service: ServiceProcess | None
    load_s: float
    progress: Progress


def _run(bench: Bench, data: Path | None, entries: list[ModelEntry]) -> None:
    """Measure every encoder, with the service beside it, idle but for its turns."""
    name, seed = bench.report.dataset, bench.report.seed
    if data is None:
        bench.progress.console.print("no DATA=: digits, 8x8 and grey, instead of CIFAR-10")
    images = load(name, data, train_size=TRAIN[name], test_size=TEST[name], seed=seed)
    total = len(entries) * (len(PERCENTILES) + 1)
    whole = bench.progress.add_task("targets of all encoders", total=total)
    for entry in entries:
        title = f"{entry.manifest.name}: opening, training the head"
        task = bench.progress.add_task(title, total=1)
        subject = Subject.opened(entry, images.test_images.shape[1:])
        asked = drawn(subject, images, bench.report.images, seed)
        bench.progress.remove_task(task)
        bench.report.subjects.append(_described(subject, asked))
        for target in targets(subject, asked, seed):
            _attack_and_measure(bench, subject, len(asked.x), target)
            bench.progress.advance(whole)


def _attack_and_measure(bench: Bench, subject: Subject, count: int, target: Target) -> None:
    """All methods on one target."""
    title, progress = f"{subject.name} {target.name}", bench.progress
    task = progress.add_task(f"{title}: attack", total=count)
    parts: list[torch.Tensor] = []
    with _threads(CORES):
        for part in target.attack():
            parts.append(part)
            progress.advance(task, len(part))
    progress.remove_task(task)
    attacked, paper = torch.cat(parts), None
    for way in target.ways:
        if bench.methods and way.name not in bench.methods:
            continue
        found = _measured(bench, title, way.name, way.certify, count)
        paper = found if way.name == reports.PAPER else paper
        rate = _rate(bench, subject, count, way, found)
        _report(bench, summed_up(subject.name, target.name, found, attacked, paper, rate))
    if target.reference and not bench.methods:
        # Its modules keep state: only as many images as are asked one by one.
        found = _measured(bench, title, lirpa.NAME, target.reference, FEWEST)
        _report(bench, summed_up(subject.name, target.name, found, attacked, paper, None))


def _measured(bench: Bench, title: str, method: str, certify: Certify, count: int) -> Measured:
    """One method on one target, with a progress bar while it lasts."""
    progress = bench.progress
    task = progress.add_task(f"{title}: {method}", total=min(count, ALONE) + count)
    found = measure(method, certify, count, bench.report.budget_s, partial(progress.advance, task))
    progress.remove_task(task)
    return found


def _report(bench: Bench, row: Row) -> None:
    bench.report.rows.append(row)
    bench.progress.console.print(line(row), highlight=False, soft_wrap=True)


def _rate(bench: Bench, subject: Subject, count: int, way: Way, found: Measured) -> float | None:
    """Pairs a second through the service, for methods that are fast enough for a load."""
    slow = found.batched_ms is None or found.batched_ms * BATCH > 1e3 * LOAD_LIMIT_S
    if bench.service is None or slow:
        return None
    name = subject.entry.manifest.name
    return pairs_per_second(bench.service.address, name, count, way.request, bench.load_s)


def _described(subject: Subject, asked: Questions) -> reports.Subject:
    return reports.Subject(
        name=subject.name,
        digest=subject.entry.manifest.digest,
        lipschitz=subject.constants.lipschitz,
        accuracy=asked.accuracy,
        feature_radii={f"p{percentile}": radius for percentile, radius in asked.radii.items()},
    )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """More threads for what is not timed."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _service(root: Path, load_s: float) -> Iterator[ServiceProcess | None]:
    """The F2I service, serving; None where no load is wanted."""
    if not load_s:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="reaas-") as logs:
        service = start_service("f2i", root, Path(logs))
        try:
            service.wait_until_serving()
            yield service
        finally:
            service.stop()


if __name__ == "__main__":
    main()
