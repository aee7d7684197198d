"""`make serve`: both services on loopback, open to every caller on this host, until Ctrl-C."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from evaluation.interrupt import stop_on_signals
from evaluation.services import ServiceError, ServiceProcess, start_service


@click.command(context_settings={"show_default": True})
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models"),
    help="Model repository.",
)
@click.option("--encoder-port", default=50051, help="Port of the encoder service.")
@click.option("--f2i-port", default=50052, help="Port of the F2I service.")
def main(models: Path, encoder_port: int, f2i_port: int) -> None:
    """Runs the encoder and the F2I service without API keys, for trying things out."""
    console = Console(highlight=False)
    stop_on_signals()
    try:
        with ExitStack() as stack:
            logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-")))
            services = []
            for name, port in (("encoder", encoder_port), ("f2i", f2i_port)):
                services.append(start_service(name, models, logs, port=port))
                stack.callback(services[-1].stop)
            for service in services:
                service.wait_until_serving()
                console.print(f"{service.name}: {service.address}, meters {service.metrics_url}")
            console.print("Ctrl-C stops both")
            _watch(services)
    except ServiceError as error:
        console.print(f"error: {error}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("both services are stopped")


def _watch(services: list[ServiceProcess]) -> None:
    """Waits; raises ServiceError as soon as one service ends."""
    while True:
        for service in services:
            service.check_running()
        time.sleep(0.5)


if __name__ == "__main__":
    main()
