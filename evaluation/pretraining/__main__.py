"""`make evaluate-pretraining`: every encoder on every data set, through the real services."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
from reaas import Client, Method, ModelInfo, ReaasError
from reaas.compare import Bench, MeterMismatchError, Meters, client_ids
from reaas.datasets import NAMES, Dataset, DatasetError, load
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from evaluation.interrupt import stop_on_signals
from evaluation.pretraining.cell import Cell, measure
from evaluation.pretraining.plot import write_plots
from evaluation.pretraining.report import Encoder, Report
from evaluation.pretraining.settings import IMAGES_SEED, Baseline, Settings
from evaluation.pretraining.store import CellStore
from evaluation.pretraining.table import cell_summary, markdown, tables
from evaluation.progress import progress_on
from evaluation.services import ServiceError, Services, running_services

_BALL_METHODS = [str(method) for method in Method if method is not Method.ENVELOPE]


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar=["DATA", "REAAS_DATA"],
    help="Directory of the data sets' files.",
)
@click.option(
    "--datasets",
    multiple=True,
    type=click.Choice(NAMES),
    default=("cifar10", "gtsrb", "svhn"),
    help="Data set; several times.",
)
@click.option(
    "--encoders", multiple=True, help="Model; several times.  [default: all, latest versions]"
)
@click.option("--test", default=200, type=click.IntRange(min=1), help="Testing images.")
@click.option("--train", default=2000, type=click.IntRange(min=10), help="Training images.")
@click.option(
    "--seeds", default=3, type=click.IntRange(min=1), help="Classifiers of seeds 1 to this."
)
@click.option(
    "--seaas-samples", default=1000, type=click.IntRange(min=20), help="SEaaS: n; n0 is a tenth."
)
@click.option(
    "--seaas-test",
    default=20,
    type=click.IntRange(min=0),
    help="SEaaS: testing images, n0 + n queries each for every sigma; 0: no SEaaS.",
)
@click.option(
    "--seaas-seeds",
    default=1,
    type=click.IntRange(min=0),
    help="SEaaS: on this many of the seeds; its training copies are 25 queries an image.",
)
@click.option(
    "--sigma",
    "sigmas",
    multiple=True,
    default=(0.25, 0.5, 1.0),
    type=click.FloatRange(min=0.0, min_open=True),
    help="SEaaS: noise level on pixels in [0,1]; several times.",
)
@click.option(
    "--f2i-method",
    type=click.Choice(_BALL_METHODS),
    default=str(Method.AUTO),
    help="Bound behind F2IPerturb for balls. AUTO is slow on encoders of a large constant.",
)
@click.option(
    "--margin-f2i-method",
    type=click.Choice([str(method) for method in Method if method is not Method.IBP]),
    default=str(Method.AUTO),
    help="The same for margins.",
)
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models"),
    help="Model repository.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("out/pretraining")
)
def main(
    data: Path | None,
    datasets: tuple[str, ...],
    encoders: tuple[str, ...],
    test: int,
    train: int,
    seeds: int,
    seaas_samples: int,
    seaas_test: int,
    seaas_seeds: int,
    sigmas: tuple[float, ...],
    f2i_method: str,
    margin_f2i_method: str,
    models: Path,
    out: Path,
) -> None:
    """Certifies classifiers on every encoder; a run that was cut off goes on where it was."""
    seaas = Baseline(seaas_samples, seaas_test, sigmas) if seaas_test and seaas_seeds else None
    settings = Settings(test, train, f2i_method, margin_f2i_method, seaas)
    plan = Plan(settings, data, datasets, encoders, tuple(range(1, seeds + 1)), seaas_seeds)
    console = Console(highlight=False)
    stop_on_signals()
    try:
        report = evaluate(plan, models, CellStore(out / "cells"), console)
    except (DatasetError, ServiceError, ReaasError, MeterMismatchError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on after the last finished cell")
        sys.exit(130)
    for table in tables(report):
        console.print(table, crop=False)
    report.write(out / "report.json")
    (out / "report.md").write_text(markdown(report), encoding="utf-8")
    for path in (out / "report.json", out / "report.md", *write_plots(report, out)):
        console.print(f"wrote {path}")


@dataclass(frozen=True)
class Plan:
    """What a run measures: the product of encoders, data sets and seeds."""

    settings: Settings
    data: Path | None
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    seeds: tuple[int, ...]
    seaas_seeds: int

    def settings_of(self, seed: int) -> Settings:
        """Of one seed: without SEaaS on those where it is not wanted."""
        return self.settings if seed <= self.seaas_seeds else replace(self.settings, seaas=None)

    def load(self, name: str) -> Dataset:
        """The images, the same for all encoders and seeds. Raises DatasetError."""
        whole, sizes = load(name, self.data), self.settings
        return load(
            name,
            self.data,
            train_size=min(sizes.train, len(whole.train_labels)),
            test_size=min(sizes.test, len(whole.test_labels)),
            seed=IMAGES_SEED,
        )


def evaluate(plan: Plan, models: Path, store: CellStore, console: Console) -> Report:
    """Measures the cells that the store lacks, on services of its own; the report of all."""
    clients = client_ids(plan.settings.compare_config("any", plan.seeds[0]))
    datasets = [plan.load(name) for name in plan.datasets]
    console.print("starting the encoder and the F2I service")
    with running_services(models, clients) as services, progress_on(console) as progress:
        with services.connect(clients[0]) as client:
            served = _served(client, plan.encoders)
        report = Report(plan.settings, plan.seeds, [Encoder.of(info) for info in served])
        total = len(plan.seeds) * len(datasets) * len(served)
        task = progress.add_task("encoders x data sets x seeds", total=total)
        try:
            for cell in _cells(plan, datasets, served, services, store, progress):
                report.cells.append(cell)
                progress.advance(task)
        except (ReaasError, MeterMismatchError):
            console.print(services.log_tails(), markup=False)
            raise
    return report


def _served(client: Client, names: tuple[str, ...]) -> list[ModelInfo]:
    """The latest versions of the models of these names (none: all). Raises ModelNotFoundError."""
    if names:
        return [client.model(name) for name in names]
    return sorted((i for i in client.models() if i.latest), key=lambda info: info.ref.name)


def _cells(
    plan: Plan,
    datasets: list[Dataset],
    served: list[ModelInfo],
    services: Services,
    store: CellStore,
    progress: Progress,
) -> Iterator[Cell]:
    """All cells; seed by seed, so that a run that is cut off has compared all encoders."""
    for seed in plan.seeds:
        settings = plan.settings_of(seed)
        for data in datasets:
            for info in served:
                cell = store.load(info.ref, data.name, seed, settings)
                if cell is None:
                    bench = Bench(
                        config=settings.compare_config(info.ref.name, seed),
                        data=data,
                        connect=services.connect,
                        meters=Meters(services.metrics_urls),
                        progress=progress,
                        encoder=info.ref,
                    )
                    cell = _measured(bench, settings)
                    store.save(cell)
                    progress.console.print(cell_summary(cell), soft_wrap=True)
                yield cell


def _measured(bench: Bench, settings: Settings) -> Cell:
    """The cell, with lines of the progress display only while it is measured."""
    before = set(bench.progress.task_ids)
    cell = measure(bench, settings)
    for task in set(bench.progress.task_ids) - before:
        bench.progress.remove_task(task)
    return cell


if __name__ == "__main__":
    main()
