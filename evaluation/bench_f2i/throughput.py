"""Pairs a second through gRPC: the real service as a process, the public client, this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import numpy as np
from numpy.typing import NDArray
from reaas import AsyncClient, ModelRef, Radii

from evaluation.bench_f2i.questions import Questions
from evaluation.load import apply_load

BATCH = 64
IN_FLIGHT = 4

Chosen = NDArray[np.intp]
Ask = Callable[[AsyncClient, ModelRef, Chosen], Coroutine[None, None, Radii]]


def ask_balls(asked: Questions, feature_radius: float, method: str, tolerance: float = 0.0) -> Ask:
    """Balls of one R'; ``tolerance`` of the search, 0: the service's own."""
    radii = np.full(BATCH, feature_radius)

    async def ask(client: AsyncClient, ref: ModelRef, chosen: Chosen) -> Radii:
        return await client.perturb(
            asked.images[chosen], radii, ref, method, relative_tolerance=tolerance
        )

    return ask


def ask_margins(asked: Questions, method: str) -> Ask:
    """Every image's own margins."""
    normals, offsets = asked.normals.numpy(), asked.offsets.numpy()

    async def ask(client: AsyncClient, ref: ModelRef, chosen: Chosen) -> Radii:
        target = normals[chosen], offsets[chosen]
        return await client.perturb_margins(asked.images[chosen], *target, ref, method)

    return ask


def pairs_per_second(address: str, model: str, images: int, ask: Ask, seconds: float) -> float:
    """Steady load with messages of `BATCH` of the ``images``, `IN_FLIGHT` of them under way."""

    async def load() -> float:
        async with AsyncClient(f2i=address) as client:
            ref = (await client.model(model)).ref

            async def send(number: int) -> int:
                chosen = (number * BATCH + np.arange(BATCH)) % images
                return len((await ask(client, ref, chosen)).radius)

            await send(0)  # opens the connection, and is not counted
            return (await apply_load(send, seconds, IN_FLIGHT)).pairs_per_second

    return asyncio.run(load())
