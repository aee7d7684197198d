"""`make demo`: both services, a client for each way to certify, a table and pictures.

python -m evaluation.demo                                  # scikit-learn's digits
python -m evaluation.demo --dataset cifar10 --data DIR     # real images, about 20 minutes
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
from reaas import Method, ReaasError
from reaas.certify import CURVE_BUDGETS
from reaas.compare import (
    CompareConfig,
    MeterMismatchError,
    Meters,
    Report,
    client_ids,
    render,
    run,
    write_plots,
)
from reaas.datasets import Dataset, DatasetError, load
from rich.console import Console
from rich.markup import escape

from evaluation.interrupt import stop_on_signals
from evaluation.progress import progress_on
from evaluation.services import ServiceError, running_services


@dataclass(frozen=True)
class Plan:
    """Defaults of a data set: inputs, noise levels of the baseline, and the bound of F2IPerturb.

    Noise levels end at Cohen et al.'s largest, 1.0. Beyond, ACR rewards a classifier that ignores
    its input: right for one class in ten, at a radius that grows with the noise.
    """

    test: int
    train: int
    record: int
    sigmas: tuple[float, ...]
    f2i_method: str = Method.AUTO


_PLANS = {
    # A few minutes on two cores; AUTO certifies a little more, for seconds of CROWN an input.
    "digits": Plan(
        test=100, train=500, record=0, sigmas=(0.12, 0.25, 0.5), f2i_method=Method.LIPSCHITZ
    ),
    # As many inputs as an honest comparison needs; fewer where the files hold fewer (SVHN).
    "cifar10": Plan(test=500, train=5000, record=20, sigmas=(0.25, 0.5, 0.75, 1.0)),
    "gtsrb": Plan(test=500, train=4300, record=20, sigmas=(0.12, 0.25, 0.5, 0.75)),
    "svhn": Plan(test=500, train=5000, record=20, sigmas=(0.12, 0.25, 0.5, 0.75)),
    "stl10": Plan(test=500, train=5000, record=20, sigmas=(0.25, 0.5, 0.75, 1.0)),
}


@click.command(context_settings={"show_default": True})
@click.option(
    "--dataset",
    type=click.Choice(list(_PLANS)),
    default="digits",
    envvar="DATASET",
    help="Images; digits come with scikit-learn.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar=["DATA", "REAAS_DATA"],
    help="Directory of the data set's files.",
)
@click.option(
    "-n",
    "--samples",
    default=1000,
    envvar="N",
    type=click.IntRange(min=20),
    help="SEaaS: noisy copies a testing input (n; n0 is a tenth).",
)
@click.option(
    "--test",
    "test_inputs",
    type=click.IntRange(min=1),
    envvar="TEST",
    help="Testing inputs.  [default: 100 digits, 500 of others]",
)
@click.option(
    "--train",
    "train_inputs",
    type=click.IntRange(min=10),
    envvar="TRAIN",
    help="Training inputs.  [default: 500 digits, 5000 of others]",
)
@click.option(
    "--record",
    "record_inputs",
    type=click.IntRange(min=0),
    envvar="RECORD",
    help="Testing inputs of SEaaS at n = 100,000.  [default: 0 digits, 20 of others]",
)
@click.option(
    "--sigma",
    "sigmas",
    multiple=True,
    type=click.FloatRange(min=0.0, min_open=True),
    help="SEaaS: noise level on pixels in [0,1]; several times.  [default: by data set]",
)
@click.option(
    "--f2i-method",
    type=click.Choice([str(method) for method in Method if method is not Method.ENVELOPE]),
    envvar="F2I_METHOD",
    help="Bound behind F2IPerturb, for balls.  [default: lipschitz for digits, auto for others]",
)
@click.option("--seed", default=1, type=click.IntRange(min=0), envvar="SEED", help="Random seed.")
@click.option("--encoder", default="moco-sn", envvar="ENCODER", help="Model to query.")
@click.option(
    "--twin", default="moco", envvar="TWIN", help="Second model for the REaaS rows; empty: none."
)
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models"),
    envvar="MODELS",
    help="Model repository.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/demo"),
    envvar="OUT",
    help="For report and pictures.",
)
def main(
    dataset: str,
    data: Path | None,
    samples: int,
    test_inputs: int | None,
    train_inputs: int | None,
    record_inputs: int | None,
    sigmas: tuple[float, ...],
    f2i_method: str | None,
    seed: int,
    encoder: str,
    twin: str,
    models: Path,
    out: Path,
) -> None:
    """Compares REaaS with SEaaS over real services: certified radii, queries, bytes."""
    plan = _PLANS[dataset]
    ball_method = f2i_method or plan.f2i_method
    config = CompareConfig(
        encoder=encoder,
        twin=twin or None,
        f2i_method=ball_method,
        # Margins get the best bound, unless nothing but the constant is wanted.
        margin_f2i_method=Method.LIPSCHITZ if ball_method == Method.LIPSCHITZ else Method.AUTO,
        seed=seed,
        budgets=(*(budget.n for budget in CURVE_BUDGETS if budget.n < samples), samples),
        sigmas=tuple(sigmas) or plan.sigmas,
        record_inputs=plan.record if record_inputs is None else record_inputs,
    )
    console = Console()
    stop_on_signals()
    try:
        images = _load(dataset, data, train_inputs, test_inputs, seed)
        compare(config, images, models, out, console)
    except (DatasetError, ServiceError, ReaasError, MeterMismatchError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; both services are stopped")
        sys.exit(130)


def compare(
    config: CompareConfig, images: Dataset, models: Path, out: Path, console: Console
) -> Report:
    """Runs the comparison on services of its own, prints the table, writes report and pictures."""
    start = time.perf_counter()
    console.print("starting the encoder and the F2I service")
    with running_services(models, client_ids(config)) as services:
        meters = Meters(services.metrics_urls)
        try:
            with progress_on(console) as progress:
                connect = services.connect
                report = run(config, images, connect, meters=meters, progress=progress)
        except (ReaasError, MeterMismatchError):
            console.print(services.log_tails(), markup=False, highlight=False)
            raise
        _show_meters(meters, client_ids(config), console)
    console.print(render(report))
    report.write(out / "report.json")
    for path in (out / "report.json", *write_plots(report, out)):
        console.print(f"wrote {path}")
    console.print(f"done in {time.perf_counter() - start:.0f} s")
    return report


def _load(
    name: str, directory: Path | None, train: int | None, test: int | None, seed: int
) -> Dataset:
    """The data set in the sizes asked for; by default in the demo's, or what there is."""
    plan = _PLANS[name]
    if train is None or test is None:
        whole = load(name, directory)
        train = train or min(plan.train, len(whole.train_labels))
        test = test or min(plan.test, len(whole.test_labels))
    return load(name, directory, train_size=train, test_size=test, seed=seed)


def _show_meters(meters: Meters, clients: list[str], console: Console) -> None:
    """What the services' Prometheus endpoints say about each client, while they live."""
    console.print("the services' meters, by client:", highlight=False)
    for metric in ("queries", "request_bytes", "response_bytes"):
        for line in meters.lines(f"reaas_{metric}_total", clients):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
