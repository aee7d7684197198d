"""`python -m evaluation.observe`: see `make observe`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
from reaas import ReaasError
from reaas.compare import MeterMismatchError, PushError
from rich.console import Console
from rich.markup import escape

from evaluation.interrupt import stop_on_signals
from evaluation.observe.bill import BillError
from evaluation.observe.monitoring import MonitoringError
from evaluation.observe.replay import ReplayError, Scale
from evaluation.observe.run import observe
from evaluation.services import ServiceError

_FAILURES = (
    BillError,
    MeterMismatchError,
    MonitoringError,
    PushError,
    ReaasError,
    ReplayError,
    ServiceError,
)


@click.command(context_settings={"show_default": True})
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models"),
    help="Model repository.",
)
@click.option("--model", default="moco-sn", help="Model that the clients use.")
@click.option("--train", default=Scale.train, help="Training inputs of each client.")
@click.option("--test", default=Scale.reaas_test, help="Testing inputs of a REaaS client, a round.")
@click.option(
    "--seaas-test", default=Scale.seaas_test, help="Testing inputs of the SEaaS client, a round."
)
@click.option(
    "-n", "--samples", default=Scale.draws, help="Noisy copies of a testing input, SEaaS."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out/observe"),
    help="For the pictures and the page.",
)
def main(
    models: Path, model: str, train: int, test: int, seaas_test: int, samples: int, out: Path
) -> None:
    """Bills four clients over real services, and runs every rule and dashboard on the result."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    stop_on_signals()
    begun = time.perf_counter()
    try:
        outcome = observe(models, model, Scale(train, test, seaas_test, samples), out, console)
    except _FAILURES as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        sys.exit(130)
    for problem in outcome.problems:
        console.print(f"[bold red]problem:[/] {escape(problem)}", soft_wrap=True)
    console.print(f"{outcome.passed} queries of rules and dashboards answered")
    console.print(f"wrote {out / 'index.html'}")
    console.print(f"done in {time.perf_counter() - begun:.0f} s")
    sys.exit(1 if outcome.problems else 0)


if __name__ == "__main__":
    main()
