"""A client that does its worst within its key's rights, beside one that asks small questions.

What counts is the neighbour's p99 beside that of an idle service, measured the same way just
before on the same processes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from grpc import aio
from numpy.typing import NDArray
from reaas import AsyncClient, ChannelOptions, ModelRef, ReaasError
from reaas.v1 import encoder_pb2, encoder_pb2_grpc, f2i_pb2, f2i_pb2_grpc, model_pb2, tensor_pb2

from evaluation.services import ServiceError, Services, running_services

_MODEL = "moco-sn"
_PAUSE_S = 0.02
_STREAMS = 40
_MOST_RATIO = 5.0
# Until the attackers have started, and their first calls are computed.
_WARM_UP_S = 5.0


@dataclass(frozen=True)
class Shift:
    """Latencies of one kind of question, without and with the attacker."""

    question: str
    idle_s: NDArray[np.float64]
    attacked_s: NDArray[np.float64]
    lost: int

    @property
    def ratio(self) -> float:
        """p99 under attack, in units of the idle one."""
        return float(np.percentile(self.attacked_s, 99) / np.percentile(self.idle_s, 99))

    @property
    def kept(self) -> bool:
        """Whether nothing was lost and p99 stayed below five times that of an idle service."""
        return not self.lost and self.ratio < _MOST_RATIO


def measure(models_dir: Path, seconds: float, seed: int) -> list[Shift]:
    """Starts both services; asks for `seconds` without and then with the attacker."""
    with running_services(models_dir, ["neighbour", "hostile"]) as services:
        return asyncio.run(_measure(services, seconds, seed))


@dataclass(frozen=True)
class Places:
    """What the attackers know."""

    encoder: str
    f2i: str
    key: str


def _attack(worst: Callable[[Places, int], Awaitable[None]], places: Places, seed: int) -> None:
    """Runs in a process of its own, until it is killed.

    It would be on another machine: on this one it gives way to the services.
    """
    os.nice(19)

    async def run() -> None:
        await worst(places, seed)

    asyncio.run(run())


async def _measure(services: Services, seconds: float, seed: int) -> list[Shift]:
    idle = await _ask(services, seconds, seed)
    places = Places(services.encoder.address, services.f2i.address, services.keys["hostile"])
    # In processes of their own: the neighbour's clock must not stand still for them.
    spawn = multiprocessing.get_context("spawn")
    attackers = [spawn.Process(target=_attack, args=(each, places, seed)) for each in _WORST]
    for attacker in attackers:
        attacker.start()
    try:
        await asyncio.sleep(_WARM_UP_S)
        attacked = await _ask(services, seconds, seed)
        died = [attacker for attacker in attackers if not attacker.is_alive()]
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.join()
    if died:
        raise ServiceError(
            f"{len(died)} of the attackers ended by themselves: nothing was measured"
        )
    return [
        Shift(name, idle[name][0], attacked[name][0], attacked[name][1] + idle[name][1])
        for name in idle
    ]


async def _ask(
    services: Services, seconds: float, seed: int
) -> dict[str, tuple[NDArray[np.float64], int]]:
    """The neighbour's questions, one at a time of each kind: latencies and losses."""
    images = np.random.default_rng(seed).integers(0, 256, (1, 32, 32, 3), np.uint8)
    options = ChannelOptions(retry_for_s=0.0, timeout_s=30.0)
    async with AsyncClient(
        services.encoder.address, services.f2i.address,
        api_key=services.keys["neighbour"], options=options,
    ) as client:  # fmt: skip
        ref: ModelRef = (await client.encode(images, _MODEL)).model

        async def encode() -> None:
            await client.encode(images, ref)

        async def lipschitz() -> None:
            await client.perturb(images, np.ones(1), ref, "lipschitz")

        kinds = {"Encode": encode, "Perturb, LIPSCHITZ": lipschitz}
        for question in kinds.values():
            await question()
        found = await asyncio.gather(*(_latencies(one, seconds) for one in kinds.values()))
    return dict(zip(kinds, found, strict=True))


async def _latencies(
    question: Callable[[], Awaitable[None]], seconds: float
) -> tuple[NDArray[np.float64], int]:
    latencies, lost, until = [], 0, time.monotonic() + seconds
    while (begun := time.monotonic()) < until:
        try:
            await question()
        except ReaasError:
            lost += 1
        latencies.append(time.monotonic() - begun)
        await asyncio.sleep(_PAUSE_S)
    return np.array(latencies), lost


def _tensor(array: NDArray[np.generic]) -> tensor_pb2.Tensor:
    number = {"uint8": 1, "float64": 3}[str(array.dtype)]
    return tensor_pb2.Tensor(dtype=number, shape=array.shape, data=array.tobytes())  # type: ignore[arg-type]


def _perturb(count: int, size: int, method: int) -> f2i_pb2.PerturbRequest:
    images = np.zeros((count, size, size, 3), np.uint8)
    ball = f2i_pb2.BallTarget(radii=_tensor(np.ones(count)))
    return f2i_pb2.PerturbRequest(
        model=model_pb2.ModelRef(name=_MODEL),
        inputs=_tensor(images),
        ball=ball,
        method=method,  # type: ignore[arg-type]
    )


def _encode(count: int, size: int) -> encoder_pb2.EncodeRequest:
    images = np.zeros((count, size, size, 3), np.uint8)
    return encoder_pb2.EncodeRequest(model=model_pb2.ModelRef(name=_MODEL), inputs=_tensor(images))


async def _keep_asking(call: Callable[[], Awaitable[object]]) -> None:
    """Again and again, whatever the answer."""
    while True:
        with suppress(grpc.RpcError):
            await call()
        await asyncio.sleep(0)


async def _hostile_f2i(places: Places, seed: int) -> None:
    """Dear bounds, storms of cancelled calls, sizes that are new, messages that are wrong."""
    metadata = (("authorization", f"Bearer {places.key}"),)
    rng = random.Random(seed)
    async with aio.insecure_channel(places.f2i) as channel:
        stub = f2i_pb2_grpc.F2IServiceStub(channel)
        dear = _perturb(32, 32, f2i_pb2.METHOD_CROWN)
        wrong = _perturb(8, 32, f2i_pb2.METHOD_LIPSCHITZ)
        wrong.ball.radii.data = b"\xff" * 64  # NaN, all of them.

        async def crown() -> None:
            await stub.Perturb(dear, metadata=metadata, timeout=30)

        async def cancelled() -> None:
            call = stub.Perturb(dear, metadata=metadata, timeout=30)
            await asyncio.sleep(rng.uniform(0.0, 0.3))
            call.cancel()

        async def new_size() -> None:
            size = rng.randrange(33, 96)
            request = _perturb(4, size, f2i_pb2.METHOD_AUTO)
            await stub.Perturb(request, metadata=metadata, timeout=20)

        async def invalid() -> None:
            await stub.Perturb(wrong, metadata=metadata, timeout=5)

        kinds = [crown] * (_STREAMS // 2) + [cancelled] * 8 + [new_size] * 4 + [invalid] * 4
        await asyncio.gather(*(_keep_asking(kind) for kind in kinds))


async def _hostile_encoder(places: Places, seed: int) -> None:
    """The largest batches, and messages that are wrong at full rate."""
    metadata = (("authorization", f"Bearer {places.key}"),)
    rng = random.Random(seed + 1)
    async with aio.insecure_channel(
        places.encoder, [("grpc.max_receive_message_length", -1)]
    ) as channel:
        stub = encoder_pb2_grpc.EncoderServiceStub(channel)
        large, odd = _encode(1024, 32), _encode(8, 128)
        wrong = _encode(2, 32)
        wrong.inputs.shape[0] = 10**9

        async def big() -> None:
            await stub.Encode(rng.choice((large, odd)), metadata=metadata, timeout=30)

        async def cancelled() -> None:
            call = stub.Encode(large, metadata=metadata, timeout=30)
            await asyncio.sleep(rng.uniform(0.0, 0.1))
            call.cancel()

        async def invalid() -> None:
            await stub.Encode(wrong, metadata=metadata, timeout=5)

        kinds = [big] * 8 + [cancelled] * 4 + [invalid] * 4
        await asyncio.gather(*(_keep_asking(kind) for kind in kinds))


_WORST = (_hostile_f2i, _hostile_encoder)
