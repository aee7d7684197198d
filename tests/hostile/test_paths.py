"""No path of a call ends a server, whatever its bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reaas.v1 import model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime.listener import make_server

from tests.hostile.service import TOY, UNLIMITED, Attacked, attacked
from tests.runtime.toy import Toy, toy_settings
from tests.support.models import conv_encoder, publish
from tests.support.servers import error_info, running
from tests.support.wire import raw_request

ODD = [
    b"/\xff/b", b"/reaas.v1.EncoderService/\xff", b"\xff", b"", b"/", b"//", b"///", b"a/b",
    b"/reaas.v1.EncoderService", b"/reaas.v1.EncoderService/",
    b"/reaas.v1.EncoderService/Encode/",
    b"/grpc.health.v1.Health/\xc3\x28", b"/\xed\xa0\x80/x", b"*", b"/%ff/%00",
    b"/x/\xf0\x9f\x98\x80",
    b"/" + 4000 * b"\xfe",
]  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    root = tmp_path_factory.mktemp("models")
    publish(root, conv_encoder())
    with attacked(TOY, root, "--allow-anonymous") as started:
        yield started


@pytest.mark.parametrize("path", ODD)
def test_any_path_is_answered(service: Attacked, path: bytes) -> None:
    with grpc.insecure_channel(service.address, UNLIMITED) as channel:
        stub: Any = EncoderServiceStub(channel)
        stub.GetInfo(model_pb2.GetInfoRequest(), timeout=10)
        raw_request(service.port, path)
        raw_request(
            service.port, path, (b"authorization", b"\xff\xfe"), (b"x-reaas-draws", b"\xff")
        )
        stub.GetInfo(model_pb2.GetInfoRequest(), timeout=10)
    assert service.health() == health_pb2.HealthCheckResponse.SERVING
    assert service.process.poll() is None
    assert "Traceback" not in service.log


@pytest.mark.parametrize("path", ["/nope", "/x/y", "/reaas.v1.EncoderService/Nope", "/a/b/c"])
async def test_an_unknown_path_is_typed(models_dir: Path, path: str) -> None:
    async with (
        running(toy_settings(models_dir), Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        call: Any = channel.unary_unary(path)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"")
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
    info = error_info(refused.value)
    assert (info.reason, info.metadata["field"]) == ("UNKNOWN_METHOD", ":path")
    assert "Error" not in (refused.value.details() or "")


async def test_the_port_of_the_probes_takes_any_path_and_small_messages(models_dir: Path) -> None:
    async with running(toy_settings(models_dir, health_port=0), Toy) as server:
        await asyncio.to_thread(raw_request, server.health.port, b"/\xff/x")
        address = f"127.0.0.1:{server.health.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            raw: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await raw(bytes(5000))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(service="reaas.live"))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_grpcio_is_the_release_that_the_refusal_was_made_for() -> None:
    """It replaces a method of grpc.aio that no documentation promises."""
    server: Any = make_server([])
    assert type(server._server).__name__ == "_RegisteredOnly"
