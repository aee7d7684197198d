"""`make evaluate-pretraining`: every encoder on every data set, through the real services."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click
from reaas import Client, Method, ModelInfo, ReaasError
from reaas.compare import Bench, CompareConfig, MeterMismatchError, Meters, client_ids
from reaas.datasets import NAMES, Dataset, DatasetError, load
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from evaluation.interrupt import stop_on_signals
from evaluation.pretraining.baseline import Baselines, measure_baselines
from evaluation.pretraining.cell import Cell, measure
from evaluation.pretraining.plot import write_plots
from evaluation.pretraining.report import Encoder, Report
from evaluation.pretraining.settings import IMAGES_SEED, LOOSE, Baseline, Settings
from evaluation.pretraining.store import CellStore
from evaluation.pretraining.table import baselines_summary, cell_summary, markdown, tables
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
@click.option("--test", default=100, type=click.IntRange(min=1), help="Testing images.")
@click.option("--train", default=2000, type=click.IntRange(min=10), help="Training images.")
@click.option(
    "--seeds", default=3, type=click.IntRange(min=1), help="Classifiers of seeds 1 to this."
)
@click.option(
    "--seaas-samples", default=1000, type=click.IntRange(min=20), help="SEaaS: n; n0 is a tenth."
)
@click.option(
    "--seaas-test",
    default=100,
    type=click.IntRange(min=0),
    help="SEaaS: testing images, n0 + n queries each for every sigma; 0: no SEaaS.",
)
@click.option(
    "--sigma",
    "sigmas",
    multiple=True,
    default=(0.25, 0.5, 0.75, 1.0),
    type=click.FloatRange(min=0.0, min_open=True),
    help="SEaaS: noise level on pixels in [0,1]; several times.",
)
@click.option(
    "--f2i-method",
    type=click.Choice(_BALL_METHODS),
    default=str(Method.AUTO),
    help="Bound behind F2IPerturb for balls.",
)
@click.option(
    "--loose-f2i-method",
    type=click.Choice(_BALL_METHODS),
    default=str(Method.LOCAL),
    help=f"The same for encoders with a constant above {LOOSE:g}, on which AUTO takes seconds.",
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
    sigmas: tuple[float, ...],
    f2i_method: str,
    loose_f2i_method: str,
    margin_f2i_method: str,
    models: Path,
    out: Path,
) -> None:
    """Certifies classifiers on every encoder; a run that was cut off goes on where it was."""
    classifiers = tuple(range(1, seeds + 1))
    seaas = Baseline(seaas_samples, seaas_test, train, sigmas, classifiers) if seaas_test else None
    settings = Settings(test, train, f2i_method, margin_f2i_method)
    plan = Plan(settings, loose_f2i_method, seaas, data, datasets, encoders, classifiers)
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
    loose_f2i_method: str
    baseline: Baseline | None
    data: Path | None
    datasets: tuple[str, ...]
    encoders: tuple[str, ...]
    seeds: tuple[int, ...]

    def settings_of(self, info: ModelInfo) -> Settings:
        """Of one encoder."""
        if info.constants.lipschitz <= LOOSE:
            return self.settings
        return replace(self.settings, f2i_method=self.loose_f2i_method)

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

    def clients(self) -> list[str]:
        """The client ids of all rows."""
        config = self.settings.compare_config("any", self.seeds[0])
        config = self.baseline.compare_config("any") if self.baseline else config
        return client_ids(config)


def evaluate(plan: Plan, models: Path, store: CellStore, console: Console) -> Report:
    """Measures what the store lacks, on services of its own; the report of all."""
    clients = plan.clients()
    datasets = [plan.load(name) for name in plan.datasets]
    console.print("starting the encoder and the F2I service")
    with running_services(models, clients) as services, progress_on(console) as progress:
        with services.connect(clients[0]) as client:
            served = _served(client, plan.encoders)
        encoders = [Encoder.of(info) for info in served]
        report = Report(plan.settings, plan.loose_f2i_method, plan.baseline, plan.seeds, encoders)
        run = Run(plan, services, store, progress)
        try:
            run.fill(report, datasets, served)
        except (ReaasError, MeterMismatchError):
            console.print(services.log_tails(), markup=False)
            raise
    return report


def _served(client: Client, names: tuple[str, ...]) -> list[ModelInfo]:
    """The latest versions of the models of these names (none: all). Raises ModelNotFoundError."""
    if names:
        return [client.model(name) for name in names]
    return sorted((i for i in client.models() if i.latest), key=lambda info: info.ref.name)


@dataclass(frozen=True)
class Run:
    """A plan on running services; what is done already is in the store."""

    plan: Plan
    services: Services
    store: CellStore
    progress: Progress

    def fill(self, report: Report, datasets: list[Dataset], served: list[ModelInfo]) -> None:
        """All cells, seed by seed, and SEaaS after the first: a run that is cut off has compared
        all encoders."""
        pairs = list(itertools.product(datasets, served))
        parts = len(self.plan.seeds) + (self.plan.baseline is not None)
        task = self.progress.add_task("encoders x data sets x seeds", total=parts * len(pairs))
        for seed in self.plan.seeds:
            for data, info in pairs:
                report.cells.append(self._cell(data, info, seed))
                self.progress.advance(task)
            if seed == self.plan.seeds[0] and self.plan.baseline is not None:
                for data, info in pairs:
                    report.baselines.append(self._baselines(data, info, self.plan.baseline))
                    self.progress.advance(task)

    def _cell(self, data: Dataset, info: ModelInfo, seed: int) -> Cell:
        settings = self.plan.settings_of(info)
        cell = self.store.load(info.ref, data.name, seed, settings)
        if cell is None:
            bench = self._bench(settings.compare_config(info.ref.name, seed), data, info)
            with self._own_lines():
                cell = measure(bench, settings)
            self.store.save(cell)
            self.progress.console.print(cell_summary(cell), soft_wrap=True)
        return cell

    def _baselines(self, data: Dataset, info: ModelInfo, settings: Baseline) -> Baselines:
        found = self.store.load_baselines(info.ref, data.name, settings)
        if found is None:
            bench = self._bench(settings.compare_config(info.ref.name), data, info)
            with self._own_lines():
                found = measure_baselines(bench, settings)
            self.store.save(found)
            self.progress.console.print(baselines_summary(found), soft_wrap=True)
        return found

    def _bench(self, config: CompareConfig, data: Dataset, info: ModelInfo) -> Bench:
        meters = Meters(self.services.metrics_urls)
        return Bench(config, data, self.services.connect, meters, self.progress, info.ref)

    @contextmanager
    def _own_lines(self) -> Iterator[None]:
        """Lines of the progress display that are there only for a while."""
        before = set(self.progress.task_ids)
        yield
        for task in set(self.progress.task_ids) - before:
            self.progress.remove_task(task)


if __name__ == "__main__":
    main()
