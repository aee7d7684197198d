"""Steady load on the F2I service: how many pairs a second it answers, and how fast each message.

    python -m evaluation.load --model moco-sn --method lipschitz

starts the service as a process on loopback and asks it through the public asynchronous client.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from reaas import AsyncClient, Method, ModelRef
from rich.console import Console

from evaluation.services import ServiceError, start_service

Send = Callable[[int], Awaitable[int]]
"""Sends message number k; returns how many pairs were answered."""


@dataclass(frozen=True)
class Load:
    """What a service did under load."""

    pairs: int
    seconds: float
    latencies_s: NDArray[np.float64]
    """One for each message, [messages]."""

    @property
    def pairs_per_second(self) -> float:
        """Pairs answered in a second."""
        return self.pairs / self.seconds

    def latency_ms(self, percentile: float) -> float:
        """A percentile (0 to 100) of the time from a message to its answer."""
        return float(np.percentile(self.latencies_s, percentile)) * 1e3


async def apply_load(send: Send, seconds: float, in_flight: int) -> Load:
    """Keeps `in_flight` messages under way for about `seconds`, then waits for the last answers."""
    begun = time.monotonic()
    numbers = iter(range(sys.maxsize))
    latencies: list[float] = []
    pairs = 0

    async def caller() -> None:
        nonlocal pairs
        while (sent := time.monotonic()) < begun + seconds:
            answered = await send(next(numbers))
            latencies.append(time.monotonic() - sent)
            pairs += answered

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return Load(pairs, time.monotonic() - begun, np.array(latencies))


async def perturb_load(
    address: str,
    model: str,
    images: NDArray[np.uint8],
    feature_radius: float,
    method: str,
    *,
    batch: int,
    seconds: float,
    in_flight: int,
) -> Load:
    """Load of `Perturb` messages with `batch` of the `images` [n, h, w, c] each.

    One message goes ahead and is not counted: it finds the digest and opens the connection.
    """
    radii = np.full(batch, feature_radius)
    async with AsyncClient(f2i=address) as client:
        ref: ModelRef = (await client.model(model)).ref

        async def send(number: int) -> int:
            chosen = (number * batch + np.arange(batch)) % len(images)
            return len((await client.perturb(images[chosen], radii, ref, method)).radius)

        await send(0)
        return await apply_load(send, seconds, in_flight)


@click.command(context_settings={"show_default": True})
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("models"),
    help="Model repository.",
)
@click.option("--model", default="moco-sn", help="Model to ask for.")
@click.option(
    "--method",
    type=click.Choice([method.value for method in Method]),
    default="lipschitz",
    help="Bound to ask for.",
)
@click.option("--size", default=32, help="Height and width of the random uint8 images.")
@click.option("--feature-radius", default=1.0, help="R' of every pair.")
@click.option("--batch", default=64, help="Pairs in a message.")
@click.option("--in-flight", default=4, help="Messages under way at a time.")
@click.option("--seconds", default=10.0, help="How long.")
@click.option("--seed", default=0, help="Of the images.")
def main(
    models: Path,
    model: str,
    method: str,
    size: int,
    feature_radius: float,
    batch: int,
    in_flight: int,
    seconds: float,
    seed: int,
) -> None:
    """Prints pairs a second and latencies of the F2I service, client on the same machine."""
    console = Console(highlight=False)
    images = np.random.default_rng(seed).integers(0, 256, (1024, size, size, 3), np.uint8)
    try:
        with tempfile.TemporaryDirectory(prefix="reaas-") as logs:
            service = start_service("f2i", models, Path(logs))
            try:
                begun = time.monotonic()
                service.wait_until_serving()
                console.print(f"serving after {time.monotonic() - begun:.1f} s")
                load = asyncio.run(
                    perturb_load(
                        service.address,
                        model,
                        images,
                        feature_radius,
                        method,
                        batch=batch,
                        seconds=seconds,
                        in_flight=in_flight,
                    )
                )
            finally:
                service.stop()
    except ServiceError as error:
        console.print(f"error: {error}", markup=False)
        sys.exit(1)
    console.print(
        f"{model} {method}: {load.pairs_per_second:.0f} pairs/s in {load.seconds:.1f} s, "
        f"{len(load.latencies_s)} messages of {batch}, p50 {load.latency_ms(50):.0f} ms, "
        f"p99 {load.latency_ms(99):.0f} ms"
    )


if __name__ == "__main__":
    main()
