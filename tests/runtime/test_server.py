"""The runtime over real sockets: health, drain, identity, metering, deadlines, keepalive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from reaas.v1 import model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub, add_EncoderServiceServicer_to_server
from reaas_runtime import ConfigurationError, RunningServer, ServiceSettings, start_server
from reaas_runtime.health import LIVE
from reaas_runtime.keys import add_key

from tests.runtime.toy import Toy, request, toy_settings
from tests.support.servers import details, error_info, running, scrape

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NAME = "reaas.v1.EncoderService"


@asynccontextmanager
async def toy(models_dir: Path, **settings: Any) -> AsyncIterator[tuple[RunningServer[Toy], Any]]:
    """A toy with `settings` and a stub for it."""
    async with (
        running(toy_settings(models_dir, **settings), Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield server, EncoderServiceStub(channel)
        server.servicer.release.set()


async def health_of(server: RunningServer[Any], service: str = "") -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def working(server: RunningServer[Toy]) -> None:
    assert await asyncio.to_thread(server.servicer.working.wait, 30)


async def pending(server: RunningServer[Toy], inputs: int) -> None:
    async with asyncio.timeout(10):
        while server.servicer.pool.pending != inputs:
            await asyncio.sleep(0.01)


def bearer(key: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {key}"),)


async def client_id(stub: Any, key: str) -> str | None:
    try:
        info = await stub.GetInfo(model_pb2.GetInfoRequest(), metadata=bearer(key))
    except grpc.aio.AioRpcError:
        return None
    return str(info.client_id)


class ColdToy(Toy):
    """A toy that does not get warm by itself."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.warm.clear()


async def test_serving_only_after_warm_up(models_dir: Path) -> None:
    server = await start_server(
        toy_settings(models_dir), ColdToy, add_EncoderServiceServicer_to_server
    )
    try:
        for service in ("", NAME):
            assert await health_of(server, service) == NOT_SERVING
        assert await health_of(server, LIVE) == SERVING, "loading is no reason to restart"
        server.servicer.warm.set()
        await server.wait_ready()
        async with asyncio.timeout(10):
            while await health_of(server, NAME) != SERVING:
                await asyncio.sleep(0.01)
        assert await health_of(server) == SERVING
    finally:
        server.servicer.warm.set()
        await server.drain(0.0)


async def test_unknown_services_have_no_health(models_dir: Path) -> None:
    async with toy(models_dir) as (server, _):
        assert (await refused(health_of(server, "nope"))).code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_names_the_service(models_dir: Path) -> None:
    async with (
        toy(models_dir) as (server, _),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        async for reply in stub.ServerReflectionInfo(iter([ask])):
            names = {s.name for s in reply.list_services_response.service}
    assert {NAME, "grpc.health.v1.Health"} <= names


async def test_drain_order(models_dir: Path) -> None:
    """NOT_SERVING at once; new calls still served; then calls in flight end; then it is gone."""
    async with toy(models_dir) as (server, stub):
        slow = stub.Encode(request("slow"))
        await working(server)
        draining = asyncio.create_task(server.drain(0.5))
        async with asyncio.timeout(10):
            while await health_of(server) != NOT_SERVING:
                await asyncio.sleep(0.01)
        assert await health_of(server, LIVE) == SERVING, "draining is no reason to restart"
        assert (await stub.GetInfo(model_pb2.GetInfoRequest())).service == NAME
        await asyncio.sleep(0.8)
        assert not draining.done()
        assert server.servicer.repository.served(), "models freed under a call in flight"
        late = await refused(stub.GetInfo(model_pb2.GetInfoRequest(), timeout=5))
        assert late.code() is grpc.StatusCode.UNAVAILABLE
        server.servicer.release.set()
        assert (await slow).model.name == "slow"
        await draining
        assert not server.servicer.repository.served()


async def test_the_grace_ends_calls_that_do_not(models_dir: Path) -> None:
    async with toy(models_dir, grace_seconds=0.3) as (server, stub):
        slow = stub.Encode(request("slow"))
        await working(server)
        async with asyncio.timeout(10):
            await server.drain(0.0)
        codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        assert (await refused(slow)).code() in codes


async def test_a_stream_is_told_to_come_back_when_draining(models_dir: Path) -> None:
    async with toy(models_dir) as (server, stub):
        stream = stub.EncodeStream()
        await stream.write(request())
        assert (await stream.read()).model.name == "tiny"
        draining = asyncio.create_task(server.drain(0.0))
        await asyncio.sleep(0.2)
        await stream.write(request())
        error = await refused(stream.read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        # The connection may end before the reason was read: to come back is right all the same.
        if "Broken pipe" not in (error.details() or ""):
            assert error_info(error).reason == "DRAINING"
        await draining


async def test_idle_health_watchers_do_not_hold_up_the_end(models_dir: Path) -> None:
    async with (
        toy(models_dir, grace_seconds=60.0) as (server, _),
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(20):
            await server.drain(0.0)


async def test_identity_is_required_and_shown(models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    key = add_key("phone", file)
    async with toy(models_dir, api_keys_file=file, allow_anonymous=False) as (server, stub):
        info = await stub.GetInfo(model_pb2.GetInfoRequest(), metadata=bearer(key))
        assert info.client_id == "phone"
        for metadata in (None, bearer("wrong")):
            for call in (
                stub.Encode(request(), metadata=metadata),
                stub.GetInfo(model_pb2.GetInfoRequest(), metadata=metadata),
                stub.EncodeStream(iter([request()]), metadata=metadata).read(),
            ):
                error = await refused(call)
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
                assert error_info(error).reason == "UNAUTHENTICATED"
        assert await health_of(server) == SERVING


async def test_keys_are_taken_over_while_running(models_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    old = add_key("phone", file)
    async with toy(models_dir, api_keys_file=file, allow_anonymous=False) as (_, stub):
        new = add_key("car", file)
        file.write_text(file.read_text().splitlines()[1])
        async with asyncio.timeout(10):
            while await client_id(stub, new) != "car":
                await asyncio.sleep(0.02)
        assert await client_id(stub, old) is None
        file.write_text("garbage")
        await asyncio.sleep(0.3)
        assert await client_id(stub, new) == "car", "a faulty file must not lock everybody out"


async def test_logs_have_one_line_a_call_and_never_a_key(models_dir: Path, tmp_path: Path) -> None:
    key = add_key("phone", tmp_path / "keys")
    with structlog.testing.capture_logs() as logs:
        async with toy(models_dir, api_keys_file=tmp_path / "keys") as (_, stub):
            await stub.Encode(request(), metadata=bearer(key))
            await refused(stub.Encode(request(), metadata=bearer("no")))
    calls = [log for log in logs if log["event"] == "call"]
    assert [(c["client"], c["code"], c["queries"]) for c in calls] == [
        ("phone", "OK", 1),
        ("", "UNAUTHENTICATED", 0),
    ]
    assert calls[0]["request_bytes"] == request().ByteSize() + 5
    assert {"api", "model", "ms", "response_bytes", "scheme", "phase"} <= calls[0].keys()
    assert calls[1]["why"] == "UNAUTHENTICATED metadata.authorization"
    assert key not in str(logs)


async def test_metadata_is_validated(models_dir: Path) -> None:
    async with toy(models_dir) as (_, stub):
        for key, value in [("x-reaas-scheme", "free"), ("x-reaas-phase", "holiday")]:
            error = await refused(stub.Encode(request(), metadata=((key, value),)))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert error_info(error).reason == "INVALID_METADATA"
            assert error_info(error).metadata["field"] == f"metadata.{key}"
            assert value in str(error.details())


async def test_a_bug_tells_nothing_and_the_service_goes_on(models_dir: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        async with toy(models_dir) as (_, stub):
            error = await refused(stub.Encode(request("bug")))
            assert (await stub.Encode(request())).model.name == "tiny"
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error_info(error).reason == "INTERNAL"
    assert "secret" not in str(error)
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["call failed"]


async def test_the_default_deadline_holds(models_dir: Path) -> None:
    async with toy(models_dir, default_deadline_s=0.1) as (_, stub):
        error = await refused(stub.Encode(request("slow")))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert error_info(error).reason == "DEADLINE_TOO_SHORT"


async def test_work_of_callers_that_have_gone_is_skipped(models_dir: Path) -> None:
    async with toy(models_dir) as (server, stub):
        first = stub.Encode(request("slow"))
        await working(server)
        gone = [stub.Encode(request()) for _ in range(3)]
        await pending(server, 4)
        for call in gone:
            call.cancel()
        await pending(server, 1)
        server.servicer.release.set()
        await first
        metrics = await scrape(server)
    assert metrics["reaas_skipped_jobs_total{why=gone}"] == 3
    name = "grpc_method=Encode,grpc_service=reaas.v1.EncoderService,grpc_type=unary"
    assert metrics[f"grpc_server_handled_total{{grpc_code=CANCELLED,{name}}}"] == 3
    assert metrics[f"grpc_server_started_total{{{name}}}"] == 4


async def test_a_full_queue_says_when_to_come_back(models_dir: Path) -> None:
    async with toy(models_dir, max_pending_inputs=2, max_batch_inputs=2) as (server, stub):
        slow = [stub.Encode(request("slow")) for _ in range(2)]
        await pending(server, 2)
        error = await refused(stub.Encode(request()))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_info(error).reason == "QUEUE_FULL"
        assert details(error)[-1].retry_delay.ToMilliseconds() > 0
        assert await health_of(server) == SERVING, "health must not wait in the queue"
        assert (await scrape(server))["reaas_pending_inputs{}"] == 2
        server.servicer.release.set()
        await asyncio.gather(*slow)


async def test_waiting_messages_are_bounded_in_bytes_too(models_dir: Path) -> None:
    limits = {"max_request_bytes": 40_000, "max_pending_bytes": 50_000}
    async with toy(models_dir, **limits) as (server, stub):
        slow = stub.Encode(request("slow", bytes(30_000)))
        await working(server)
        for call in (
            stub.Encode(request(data=bytes(30_000))),
            stub.EncodeStream(iter([request(data=bytes(30_000))])).read(),
        ):
            error = await refused(call)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_info(error).reason == "QUEUE_FULL"
        server.servicer.release.set()
        await slow
        for _ in range(3):
            assert (await stub.Encode(request(data=bytes(30_000)))).model.name == "tiny"
        stream = stub.EncodeStream(iter([request(data=bytes(30_000))] * 3))
        assert len([reply async for reply in stream]) == 3


async def test_clients_beyond_the_bound_share_a_label(models_dir: Path, tmp_path: Path) -> None:
    keys = [add_key(f"client-{i}", tmp_path / "keys") for i in range(3)]
    settings = {"api_keys_file": tmp_path / "keys", "max_metered_clients": 1}
    async with toy(models_dir, **settings) as (server, stub):
        await stub.Encode(request())
        for key in keys:
            await stub.Encode(request(), metadata=bearer(key))
        metrics = await scrape(server)
    name = "reaas_queries_total{{api=feature,client={},model=tiny,phase=test,scheme=reaas}}"
    assert metrics[name.format("client-0")] == 1
    assert metrics[name.format("other")] == 2
    assert metrics[name.format("anonymous")] == 1


async def test_64_images_of_224x224_float32_pass_both_ways(models_dir: Path) -> None:
    data = bytes(64 * 224 * 224 * 3 * 4)
    unlimited = [("grpc.max_receive_message_length", -1)]
    async with (
        toy(models_dir) as (server, _),
        grpc.aio.insecure_channel(server.address, options=unlimited) as channel,
    ):
        reply = await EncoderServiceStub(channel).Encode(request(data=data))
    assert len(reply.features.data) == len(data)


@pytest.mark.parametrize(("allowed_every_s", "survives"), [(0.5, True), (300.0, False)])
async def test_frequent_pings_survive_a_long_call(
    models_dir: Path, allowed_every_s: float, survives: bool
) -> None:
    """The second case shows what gRPC's own limit (300 s) does to a client that keeps alive."""
    options = [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    async with (
        toy(models_dir, min_client_ping_s=allowed_every_s) as (server, _),
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        call = EncoderServiceStub(channel).Encode(request("slow"))
        await asyncio.wait({asyncio.create_task(call.code())}, timeout=6 if survives else 20)
        server.servicer.release.set()
        if survives:
            assert (await call).model.name == "slow"
        else:
            assert (await refused(call)).details() == "Too many pings"


async def test_a_port_in_use_is_a_clear_error(models_dir: Path) -> None:
    async with toy(models_dir) as (server, _):
        for taken in ({"port": server.port}, {"metrics_port": server.metrics_port}):
            settings: ServiceSettings = toy_settings(models_dir, **taken)
            with pytest.raises(ConfigurationError, match=r"cannot (listen|serve metrics) on"):
                await start_server(settings, Toy, add_EncoderServiceServicer_to_server)


@pytest.mark.parametrize("package", ["v1", "v1alpha"])
async def test_reflection_is_a_setting(models_dir: Path, package: str) -> None:
    method = f"/grpc.reflection.{package}.ServerReflection/ServerReflectionInfo"
    ask = reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAME)
    for on in (True, False):
        async with (
            toy(models_dir, reflection=on) as (server, _),
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            call: Any = channel.unary_unary(
                method,
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            if on:
                reply = await call(ask, timeout=10)
                assert reply.file_descriptor_response.file_descriptor_proto
            else:
                assert (await refused(call(ask))).code() is grpc.StatusCode.UNIMPLEMENTED
