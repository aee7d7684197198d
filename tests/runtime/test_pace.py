"""Calls of one caller are limited, those that are refused for what they are much more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import DomainError, Reason
from reaas_runtime.keys import add_key
from reaas_runtime.pace import CallLimiter

from tests.runtime.test_server import bearer
from tests.runtime.toy import Toy, request, toy_settings
from tests.support.servers import details, error_info, running


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def entered(limiter: CallLimiter, caller: str, calls: int, *, refused: bool = False) -> int:
    """How many of `calls` are let in."""
    found = 0
    for _ in range(calls):
        try:
            limiter.enter(caller)
        except DomainError:
            continue
        found += 1
        if refused:
            limiter.refused(caller)
    return found


def test_the_refusal_says_when_to_come_back() -> None:
    limiter = CallLimiter(1, 1, Clock())
    entered(limiter, "a", 100)
    with pytest.raises(DomainError, match="more than 1 calls a second") as refused:
        limiter.enter("a")
    assert refused.value.reason is Reason.TOO_MANY_CALLS
    assert refused.value.retry_after_s == 1.0


def test_a_burst_then_the_rate() -> None:
    clock = Clock()
    limiter = CallLimiter(100, 10, clock)
    assert entered(limiter, "a", 10_000) == 500
    assert entered(limiter, "b", 10) == 10, "others are not held up"
    clock.now = 1.0
    assert entered(limiter, "a", 10_000) == 100


def test_refusals_cost_more_and_a_good_call_comes_through_at_once() -> None:
    clock = Clock()
    limiter = CallLimiter(100, 10, clock)
    assert entered(limiter, "a", 10_000, refused=True) == 50
    clock.now = 1.0
    assert entered(limiter, "a", 10_000, refused=True) == 10
    clock.now = 1.02
    assert entered(limiter, "a", 1) == 1


def test_callers_are_bounded_and_the_clock_may_stand_still() -> None:
    limiter = CallLimiter(100, 10, Clock())
    for caller in range(10_000):
        limiter.enter(str(caller))
    assert len(limiter) <= 4096


async def test_floods_over_a_socket(models_dir: Path, tmp_path: Path) -> None:
    key = add_key("camera", tmp_path / "keys")
    settings = {"max_calls_per_s": 10.0, "max_refusals_per_s": 1.0}
    async with (
        running(toy_settings(models_dir, api_keys_file=tmp_path / "keys", **settings), Toy) as at,
        grpc.aio.insecure_channel(at.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        refused = []
        # Until the address has used up what it may, however slow the machine is.
        async with asyncio.timeout(60):
            while not refused or error_info(refused[-1]).reason == "UNAUTHENTICATED":
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await stub.Encode(request(), metadata=bearer("wrong"))
                refused.append(error.value)
        assert error_info(refused[0]).reason == "UNAUTHENTICATED"
        last = refused[-1]
        assert error_info(last).reason == "TOO_MANY_CALLS"
        assert last.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert any(isinstance(d, error_details_pb2.RetryInfo) for d in details(last))
        assert (await stub.Encode(request(), metadata=bearer(key))).model.name == "tiny"
