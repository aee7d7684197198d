"""Rates and quotas of clients, over real sockets; what is counted for a bill beside queries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from reaas.v1 import encoder_pb2, model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import ConfigurationError, as_tensor
from reaas_runtime.identity import read_key_file
from reaas_runtime.keys import add_key
from reaas_runtime.metering import Cost

from tests.runtime.test_server import bearer
from tests.runtime.toy import Toy, request, toy_settings
from tests.support.servers import details, encoder_server, error_info, running, scrape


@asynccontextmanager
async def limited(
    models_dir: Path, file: Path, **settings: Any
) -> AsyncIterator[tuple[Any, Any, tuple[tuple[str, str]]]]:
    """A toy, a stub, and the metadata of `camera`, which may ask 3 queries a day."""
    key = add_key("camera", file, limits=["3/day"])
    arguments = toy_settings(models_dir, api_keys_file=file, **settings)
    async with (
        running(arguments, Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield server, EncoderServiceStub(channel), bearer(key)


async def test_a_quota_ends_and_says_when_it_begins_again(models_dir: Path, tmp_path: Path) -> None:
    async with limited(models_dir, tmp_path / "keys.txt") as (server, stub, camera):
        for _ in range(3):
            await stub.Encode(request("echo"), metadata=camera)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Encode(request("echo"), metadata=camera)
        metrics = await scrape(server)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_info(error.value).reason == "QUOTA_EXCEEDED"
    assert "0 of 3 queries in 86400 s are left" in (error.value.details() or "")
    [retry] = [d for d in details(error.value) if isinstance(d, error_details_pb2.RetryInfo)]
    assert 0 < retry.retry_delay.ToSeconds() <= 86400
    assert metrics["reaas_quota_used_ratio{client=camera}"] == 1.0
    assert metrics["reaas_refused_total{reason=QUOTA_EXCEEDED}"] == 1


async def test_other_clients_are_not_held_up(models_dir: Path, tmp_path: Path) -> None:
    async with limited(models_dir, tmp_path / "keys.txt") as (_, stub, camera):
        for _ in range(3):
            await stub.Encode(request("echo"), metadata=camera)
        await stub.Encode(request("echo"))  # anonymous, without limits here


async def test_limits_by_default_hold_for_everybody_else(models_dir: Path, tmp_path: Path) -> None:
    settings = {"default_limits": ("1/hour",)}
    async with limited(models_dir, tmp_path / "keys.txt", **settings) as (_, stub, camera):
        for _ in range(3):
            await stub.Encode(request("echo"), metadata=camera)  # has its own
        await stub.Encode(request("echo"))
        with pytest.raises(grpc.aio.AioRpcError, match="0 of 1 queries"):
            await stub.Encode(request("echo"))


@pytest.mark.parametrize("text", ["fast", "3/fortnight", "-1/day"])
def test_a_faulty_limit_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="100/second"):
        add_key("camera", tmp_path / "keys.txt", limits=[text])


def test_limits_and_roles_share_a_line(tmp_path: Path) -> None:
    add_key("camera", tmp_path / "keys.txt", ["operator"], ["5/second", "9/day"])
    entry = read_key_file(tmp_path / "keys.txt")["camera"]
    assert entry.roles == {"operator"}
    assert [limit.amount for limit in entry.limits or ()] == [5, 9]


@pytest.mark.parametrize(
    ("api", "scheme", "certificates"),
    [("f2iperturb", "reaas", 8), ("feature", "seaas", 2), ("feature", "reaas", 0)],
)
def test_declared_certificates(api: str, scheme: str, certificates: float) -> None:
    assert Cost(api, "m", 8, 0.1).certificates(scheme, draws=4) == certificates


@pytest.mark.parametrize("value", ["", "0", "-5", "1e3", "10000001", "9" * 40])
async def test_declared_draws_are_validated(models_dir: Path, value: str) -> None:
    async with (
        running(toy_settings(models_dir), Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Encode(request("echo"), metadata=(("x-reaas-draws", value),))
    assert error_info(error.value).reason == "INVALID_METADATA"


async def test_declared_draws_are_counted(models_dir: Path) -> None:
    async with (
        running(toy_settings(models_dir), Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        metadata = (("x-reaas-scheme", "seaas"), ("x-reaas-draws", "4"))
        for _ in range(2):
            await stub.Encode(request("echo"), metadata=metadata)
        metrics = await scrape(server)
    labels = "{client=anonymous,model=echo,phase=test,scheme=seaas}"
    assert metrics[f"reaas_declared_certificates_total{labels}"] == 0.5
    assert metrics[f"reaas_declared_draws_total{labels}"] == 2


async def test_a_message_that_is_refused_costs_no_quota(models_dir: Path, tmp_path: Path) -> None:
    """NaN is found in a worker, after the message was let in."""
    key = add_key("camera", tmp_path / "keys", limits=["3/day"])
    settings = {"api_keys_file": tmp_path / "keys", "allow_anonymous": False}
    good = np.zeros((3, 8, 8, 3), np.float32)
    async with (
        encoder_server(models_dir, **settings) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        model = model_pb2.ModelRef(name="tiny")
        bad = encoder_pb2.EncodeRequest(model=model, inputs=as_tensor(good + np.float32("nan")))
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError, match="nan"):
                await stub.Encode(bad, metadata=bearer(key))
        assert (await scrape(server))["reaas_quota_used_ratio{client=camera}"] == 0.0
        asked = encoder_pb2.EncodeRequest(model=model, inputs=as_tensor(good))
        await stub.Encode(asked, metadata=bearer(key))
        with pytest.raises(grpc.aio.AioRpcError, match="0 of 3 queries"):
            await stub.Encode(asked, metadata=bearer(key))


async def test_a_client_that_may_ask_nothing(models_dir: Path, tmp_path: Path) -> None:
    key = add_key("none", tmp_path / "keys", limits=["0/day"])
    async with (
        running(toy_settings(models_dir, api_keys_file=tmp_path / "keys"), Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="may not ask"):
            await stub.Encode(request(), metadata=bearer(key))
        assert (await scrape(server))["reaas_quota_used_ratio{client=none}"] == 1.0
