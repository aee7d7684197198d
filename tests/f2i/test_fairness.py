"""One client does its worst within its rights; what the others see of it, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from reaas.v1 import f2i_pb2
from reaas.v1.f2i_pb2_grpc import F2IServiceStub
from reaas_bounds import Method
from reaas_f2i.effort import effort_of, within_memory
from reaas_f2i.questions import to_question
from reaas_f2i.sizes import SizedEncoder, Sizes
from reaas_f2i.targets import Ball
from reaas_runtime import DomainError, Reason
from reaas_runtime.keys import add_key

from tests.runtime.test_server import bearer
from tests.support.f2i import certified, f2i_server, perturb_request
from tests.support.models import conv_encoder, manifest, publish
from tests.support.servers import error_info, scrape

LOOSE = conv_encoder(size=32, channels=(16, 32), scale=4.0)
Keys = dict[str, tuple[tuple[str, str]]]


def images(count: int, size: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def question(count: int, method: int, size: int = 32) -> f2i_pb2.PerturbRequest:
    """CROWN with a bracket that takes all steps there are."""
    search = f2i_pb2.SearchOptions(max_steps=60, relative_tolerance=1e-12)
    batch = images(count, size)
    return perturb_request(batch, np.full(count, 2.0), method=method, search=search)


@asynccontextmanager
async def house(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Any, Any, Keys]]:
    """F2I with one worker and a loose encoder; keys of mallory and alice."""
    meta = manifest(LOOSE, certified=certified(LOOSE))
    meta["input"] = meta["input"] | {"shape": [32, 32, 3]}
    publish(tmp_path / "models", LOOSE, meta)
    keys = {name: bearer(add_key(name, tmp_path / "keys")) for name in ("mallory", "alice")}
    chosen = {"workers": 1, "api_keys_file": tmp_path / "keys", "allow_anonymous": False}
    async with (
        f2i_server(tmp_path / "models", **chosen | settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield server, F2IServiceStub(channel), keys


async def until_pending(server: Any, inputs: int) -> None:
    async with asyncio.timeout(60):
        while server.servicer.pool.pending != inputs:
            await asyncio.sleep(0.01)


async def test_closed_forms_do_not_wait_for_another_clients_searches(tmp_path: Path) -> None:
    async with house(tmp_path) as (server, stub, keys):
        cheap = question(1, f2i_pb2.METHOD_LIPSCHITZ)
        await stub.Perturb(cheap, metadata=keys["alice"])
        dear = [
            asyncio.ensure_future(
                stub.Perturb(question(64, f2i_pb2.METHOD_CROWN), metadata=keys["mallory"])
            )
            for _ in range(8)
        ]
        await until_pending(server, 512)
        for _ in range(20):
            reply = await stub.Perturb(cheap, metadata=keys["alice"], timeout=30)
            assert reply.results[0].radius > 0
        new = question(1, f2i_pb2.METHOD_LIPSCHITZ, size=48)
        await stub.Perturb(new, metadata=keys["alice"], timeout=60)
        assert not any(call.done() for call in dear), "they were still being worked on"
        mine = await stub.Perturb(
            question(1, f2i_pb2.METHOD_CROWN), metadata=keys["alice"], timeout=60
        )
        assert len(mine.results) == 1
        assert sum(call.done() for call in dear) < 2, "alice had her turn before them"
        for call in dear:
            call.cancel()
        await until_pending(server, 0)


async def test_cancelled_searches_end_within_a_step(tmp_path: Path) -> None:
    async with house(tmp_path) as (server, stub, keys):
        calls = [
            stub.Perturb(question(64, f2i_pb2.METHOD_CROWN), metadata=keys["mallory"])
            for _ in range(4)
        ]
        await until_pending(server, 256)
        for call in calls:
            call.cancel()
        await until_pending(server, 0)
        found = await scrape(server)
    assert found["reaas_pending_inputs{}"] == 0
    assert found["reaas_skipped_jobs_total{why=gone}"] > 0


async def test_a_full_house_has_room_for_the_next_client(tmp_path: Path) -> None:
    settings = {"max_pending_inputs": 64, "max_batch_inputs": 8}
    async with house(tmp_path, **settings) as (_, stub, keys):
        calls = [
            stub.Perturb(question(8, f2i_pb2.METHOD_CROWN), metadata=keys["mallory"])
            for _ in range(12)
        ]
        async with asyncio.timeout(60):
            while not any(call.done() for call in calls):
                await asyncio.sleep(0.01)
        refused = next(call for call in calls if call.done())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        assert error_info(error.value).reason == "QUEUE_FULL"
        cheap = question(8, f2i_pb2.METHOD_LIPSCHITZ)
        reply = await stub.Perturb(cheap, metadata=keys["alice"], timeout=60)
        assert len(reply.results) == 8
        for call in calls:
            call.cancel()


async def test_everybody_is_answered_by_the_deadline_with_what_is_certified(
    tmp_path: Path,
) -> None:
    """More searches than fit: those whose turn does not come have their closed form."""
    async with house(tmp_path) as (_, stub, keys):
        hog = stub.Perturb(question(64, f2i_pb2.METHOD_CROWN), metadata=keys["mallory"])
        await asyncio.sleep(0.2)
        auto = question(40, f2i_pb2.METHOD_AUTO)
        reply = await stub.Perturb(auto, metadata=keys["alice"], timeout=5)
        closed = await stub.Perturb(
            question(40, f2i_pb2.METHOD_LIPSCHITZ), metadata=keys["alice"], timeout=60
        )
        hog.cancel()
    pairs = zip(reply.results, closed.results, strict=True)
    assert all(found.radius >= least.radius > 0 for found, least in pairs)
    assert not all(found.converged for found in reply.results)


async def test_shutting_down_answers_searches_within_the_grace(tmp_path: Path) -> None:
    async with house(tmp_path, grace_seconds=10.0) as (server, stub, keys):
        calls = [
            asyncio.ensure_future(
                stub.Perturb(question(8, f2i_pb2.METHOD_CROWN), metadata=keys["mallory"])
            )
            for _ in range(2)
        ]
        await until_pending(server, 16)
        await server.drain(0.0)
        replies = await asyncio.gather(*calls)
    assert [len(reply.results) for reply in replies] == [8, 8]


async def test_a_new_size_is_made_once_and_within_the_deadline(tmp_path: Path) -> None:
    async with house(tmp_path) as (server, stub, keys):
        certifier = server.servicer.repository.served()[0].model
        made: list[tuple[int, ...]] = []
        prepare = certifier.prepare

        def counted(shape: tuple[int, ...], client: str) -> None:
            made.append(shape)
            prepare(shape, client)

        certifier.prepare = counted
        request = question(1, f2i_pb2.METHOD_LIPSCHITZ, size=41)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stub.Perturb(request, metadata=keys["alice"], timeout=0.02)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        replies = await asyncio.gather(
            *(stub.Perturb(request, metadata=keys["alice"], timeout=60) for _ in range(6))
        )
    assert len({reply.results[0].radius for reply in replies}) == 1
    assert made == [(41, 41, 3)]


def test_ever_new_sizes_cost_nobody_else_theirs() -> None:
    def make(shape: tuple[int, ...]) -> Any:
        return SizedEncoder(shape, None)  # type: ignore[arg-type]

    sizes = Sizes((32, 32, 3), make, most=4)
    for shape, client in [((32, 32, 3), ""), ((1, 1, 3), "alice"), ((2, 2, 3), "bob")]:
        sizes.at(shape, client)
    for side in range(33, 100):
        sizes.at((side, side, 3), "mallory")
    kept = [shape for shape in [(32, 32, 3), (1, 1, 3), (2, 2, 3)] if sizes.known(shape)]
    assert len(kept) == 3
    assert sum(sizes.known((side, side, 3)) is not None for side in range(33, 100)) == 2


async def test_what_does_not_fit_is_refused_and_auto_takes_what_does(tmp_path: Path) -> None:
    async with house(tmp_path, memory_budget_bytes=2_000_000) as (server, stub, keys):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Perturb(question(1, f2i_pb2.METHOD_CROWN), metadata=keys["alice"])
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_info(error.value).metadata["field"] == "method"
        reply = await stub.Perturb(question(1, f2i_pb2.METHOD_AUTO), metadata=keys["alice"])
        assert reply.results[0].radius > 0
        served = server.servicer.repository.served()[0]
        asked = to_question(
            question(1, f2i_pb2.METHOD_AUTO),
            served.entry.manifest.input,
            server.servicer.settings,
        )
    encoder = served.model.at_shape((32, 32, 3))
    needs = effort_of(asked, encoder).memory
    assert within_memory(asked, encoder, needs) is asked
    assert within_memory(asked, encoder, 1000).target.method is Method.LIPSCHITZ
    assert isinstance(asked.target, Ball)
    crown = replace(asked, target=replace(asked.target, method=Method.CROWN))
    with pytest.raises(DomainError) as refused:
        within_memory(crown, encoder, 1000)
    assert refused.value.reason is Reason.BATCH_TOO_LARGE
