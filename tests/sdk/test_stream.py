"""Many batches over one stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import reaas
from reaas.testing import FakeModel, FakeServer

from tests.sdk.samples import make_images


def test_each_batch_has_its_answer_in_order(client: Any, server: FakeServer) -> None:
    batches = [make_images(n, seed=n) for n in (3, 1, 7, 2)]
    answers = list(client.encode_stream(batches, "fake"))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer.values, server.model.encode(batch / 255.0))


def test_radii_come_over_a_stream(client: Any, server: FakeServer) -> None:
    batches = [(make_images(n), np.linspace(0.1, 1.0, n)) for n in (3, 5)]
    answers = list(client.perturb_stream(batches, server.model.ref, "crown", max_steps=3))
    for (_, feature_radii), answer in zip(batches, answers, strict=True):
        loose = feature_radii / (2.0 * np.sqrt(8))
        np.testing.assert_allclose(answer.radius, loose, rtol=1e-4)


def test_large_batches_are_split_and_joined(make_client: Any) -> None:
    with FakeServer(max_batch_inputs=4) as server:
        client = make_client(server.address)
        batches = [make_images(10), make_images(4), make_images(9)]
        sizes = [len(answer) for answer in client.encode_stream(batches, "fake")]
        assert sizes == [10, 4, 9]
        assert client.ledger.entries() == server.meter.entries()


def test_batches_are_taken_as_they_are_needed(client: Any) -> None:
    def endless() -> Iterator[Any]:
        while True:
            yield make_images(200)

    stream = client.encode_stream(endless(), "fake")
    assert [len(next(stream)) for _ in range(5)] == [200] * 5
    if isinstance(client, reaas.Client):
        stream.close()


def test_a_batch_is_asked_for_when_it_can_leave(make_client: Any, server: FakeServer) -> None:
    """Its time begins when it is asked for, so it must not wait for others after that."""
    events: list[str] = []

    def answered(reply: Any) -> Any:
        events.append("answered")
        return reply

    def batches() -> Iterator[Any]:
        for _ in range(3):
            events.append("asked for")
            yield make_images(1)

    server.tamper = answered
    client = make_client(server.address, options=reaas.ChannelOptions(messages_in_flight=1))
    assert len(list(client.encode_stream(batches(), "fake"))) == 3
    assert events == ["asked for", "answered"] * 3


def test_an_empty_stream_is_empty(client: Any) -> None:
    assert list(client.encode_stream([], "fake")) == []


def test_what_the_batches_raise_comes_out_after_the_answers(client: Any) -> None:
    def broken() -> Iterator[Any]:
        yield make_images(2)
        raise OSError("disk")

    stream = client.encode_stream(broken(), "fake")
    assert len(next(stream)) == 2
    with pytest.raises(OSError, match="disk"):
        next(stream)


def test_a_bad_batch_is_named(client: Any) -> None:
    stream = client.encode_stream([make_images(2), np.zeros((1, 4, 4, 3))], "fake")
    assert len(next(stream)) == 2
    with pytest.raises(reaas.InvalidArgumentError, match="float64"):
        next(stream)


def test_a_service_error_ends_the_stream(client: Any, server: FakeServer) -> None:
    server.fail_next("MODEL_BROKEN")
    with pytest.raises(reaas.ModelUnusableError):
        list(client.encode_stream([make_images(2)] * 3, "fake"))


def test_an_encoder_that_changes_ends_the_stream(client: Any, server: FakeServer) -> None:
    def swap(reply: Any) -> Any:
        server.models = [FakeModel(seed=1)]
        return reply

    server.tamper = swap
    with pytest.raises(reaas.DigestMismatchError):
        list(client.encode_stream([make_images(2)] * 3, "fake"))


def test_a_stream_has_a_deadline(client: Any, server: FakeServer) -> None:
    client.info()
    server.delay_s = 2.0
    with pytest.raises(reaas.DeadlineExceededError):
        list(client.encode_stream([make_images(2)], "fake", timeout=0.2))


async def test_asynchronous_batches_are_taken(server: FakeServer) -> None:
    async def batches() -> AsyncIterator[Any]:
        for n in (1, 2, 3):
            await asyncio.sleep(0)
            yield make_images(n)

    async with reaas.AsyncClient(server.address) as client:
        sizes = [len(answer) async for answer in client.encode_stream(batches(), "fake")]
    assert sizes == [1, 2, 3]


async def test_many_calls_run_at_once_on_one_loop(server: FakeServer) -> None:
    async with reaas.AsyncClient(server.address) as client:
        batches = [make_images(3, seed) for seed in range(30)]
        answers = await asyncio.gather(*(client.encode(batch, "fake") for batch in batches))
        assert client.ledger.entries() == server.meter.entries()
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(answer.values, server.model.encode(batch / 255.0))


async def test_a_cancelled_call_leaves_the_client_usable(server: FakeServer) -> None:
    async with reaas.AsyncClient(server.address) as client:
        await client.info()
        server.delay_s = 1.0
        call = asyncio.create_task(client.encode(make_images(2), "fake"))
        await asyncio.sleep(0.1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        server.delay_s = 0.0
        assert len(await client.encode(make_images(2), "fake")) == 2
