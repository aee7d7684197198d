"""Replicas that die while they are asked: does any query get lost?

    python -m evaluation.outage --queries 6000

Two encoder replicas answer single-image queries of one public client. A third of the way one of
them is killed (SIGKILL) and started again; two thirds of the way the other one is told to stop
(SIGTERM, as Kubernetes does) and drains. The client's retries should hide both; every answer is
compared, bit for bit, with one from before.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import reaas
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from evaluation.services import ServiceProcess, start_service

# Images to choose from; the same ones again, so that answers can be compared.
_IMAGES = 64
_CALLERS = 8


@dataclass(frozen=True)
class Outcome:
    """What became of the queries."""

    answered: int
    wrong: int
    lost: Counter[str]
    """By error."""

    @property
    def whole(self) -> bool:
        """Nothing was lost, and no answer differed."""
        return not self.lost and self.wrong == 0


def ask_through_outages(models_dir: Path, model: str, queries: int, progress: Progress) -> Outcome:
    """Ask `queries` times while replicas die. Starts and stops everything that it needs."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reaas-outage-")))
        logs = [directory / name for name in ("first", "second")]
        for log in logs:
            log.mkdir()
        replicas = [start_service("encoder", models_dir, log) for log in logs]
        for replica in replicas:
            stack.callback(replica.stop)
            replica.wait_until_serving()
        address = "ipv4:" + ",".join(replica.address for replica in replicas)
        options = reaas.ChannelOptions(retry_for_s=30.0)
        client = stack.enter_context(reaas.Client(address, options=options))
        pool = np.random.default_rng(1).integers(0, 256, (_IMAGES, 32, 32, 3), dtype=np.uint8)
        expected = client.encode(pool, model).values  # [64, d]
        outages = {
            queries // 3: lambda: _kill_and_restart(replicas[0], models_dir, logs[0], stack),
            2 * queries // 3: lambda: os.kill(replicas[1].process.pid, signal.SIGTERM),
        }
        return _ask(client, model, pool, expected, queries, outages, progress)


def _ask(
    client: reaas.Client,
    model: str,
    pool: NDArray[np.uint8],
    expected: NDArray[np.float32],
    queries: int,
    outages: Mapping[int, Callable[[], None]],
    progress: Progress,
) -> Outcome:
    """One image a query, several callers; outages when so many queries were begun."""
    task = progress.add_task("queries", total=queries)
    wrong, lost, lock = 0, Counter[str](), threading.Lock()

    def ask(number: int) -> None:
        nonlocal wrong
        outage = outages.get(number)
        if outage is not None:
            outage()
        index = number % _IMAGES
        try:
            answer = client.encode(pool[index : index + 1], model).values[0]  # [d]
        except reaas.ReaasError as error:
            with lock:
                lost[f"{type(error).__name__}: {error}"] += 1
        else:
            with lock:
                wrong += not np.array_equal(answer, expected[index])
        progress.advance(task)

    with ThreadPoolExecutor(_CALLERS) as callers:
        list(callers.map(ask, range(queries)))
    return Outcome(queries - lost.total(), wrong, lost)


def _kill_and_restart(
    replica: ServiceProcess, models_dir: Path, log: Path, stack: ExitStack
) -> None:
    os.killpg(replica.process.pid, signal.SIGKILL)
    replica.process.wait()
    stack.callback(start_service("encoder", models_dir, log, port=replica.port).stop)


@click.command(help=__doc__)
@click.option("--queries", default=6000, show_default=True, type=click.IntRange(min=10))
@click.option("--model", default="moco-sn", show_default=True, help="Encoder to ask.")
@click.option(
    "--models-dir", type=click.Path(path_type=Path, exists=True), default=Path("models"),
    show_default=True,
)  # fmt: skip
def main(queries: int, model: str, models_dir: Path) -> None:
    """Print what became of the queries; status 1 if one was lost."""
    console = Console()
    with Progress(console=console) as progress:
        outcome = ask_through_outages(models_dir, model, queries, progress)
    console.print(
        f"{queries} queries, one replica killed and one drained meanwhile: {outcome.answered} "
        f"answered, {outcome.lost.total()} lost, {outcome.wrong} with other bits than before"
    )
    for error, count in outcome.lost.most_common():
        console.print(f"  {count} x {error}")
    sys.exit(0 if outcome.whole else 1)


if __name__ == "__main__":
    main()
