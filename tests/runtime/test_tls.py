from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reaas.v1 import model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub, add_EncoderServiceServicer_to_server
from reaas_runtime import ConfigurationError, start_server

from tests.runtime.toy import Toy, toy_settings
from tests.support.servers import running, scrape

Write = Callable[[str, trustme.Blob], Path]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(name: str, blob: trustme.Blob) -> Path:
        path = tmp_path / name
        path.write_bytes(blob.bytes())
        return path

    return _write


@pytest.fixture
def tls(authority: trustme.CA, write: Write) -> dict[str, Any]:
    """Settings of a server whose certificate is for 127.0.0.1."""
    certificate = authority.issue_cert("127.0.0.1")
    return {
        "tls": True,
        "tls_cert": write("cert.pem", certificate.cert_chain_pems[0]),
        "tls_key": write("key.pem", certificate.private_key_pem),
    }


async def service_name(address: str, credentials: grpc.ChannelCredentials | None) -> str:
    channel = (
        grpc.aio.insecure_channel(address)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials)
    )
    async with channel:
        stub: Any = EncoderServiceStub(channel)
        info = await stub.GetInfo(model_pb2.GetInfoRequest(), timeout=10)
        return str(info.service)


async def test_tls_is_one_switch(
    models_dir: Path, authority: trustme.CA, tls: dict[str, Any]
) -> None:
    trusting = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    stranger = grpc.ssl_channel_credentials(trustme.CA().cert_pem.bytes())
    async with running(toy_settings(models_dir, **tls), Toy) as server:
        assert await service_name(server.address, trusting) == "reaas.v1.EncoderService"
        for credentials in (None, stranger):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await service_name(server.address, credentials)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_end_of_the_certificate_is_a_metric(
    models_dir: Path, tls: dict[str, Any]
) -> None:
    async with running(toy_settings(models_dir, **tls), Toy) as server:
        metrics = await scrape(server)
    assert metrics["reaas_tls_certificate_expiry_timestamp_seconds{}"] > time.time()


async def test_probes_need_no_tls_and_reach_nothing_else(
    models_dir: Path, tls: dict[str, Any]
) -> None:
    """The probes of Kubernetes speak plain text."""
    async with running(toy_settings(models_dir, **tls, health_port=0), Toy) as server:
        address = f"127.0.0.1:{server.health.port}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await service_name(address, None)
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_clients_may_have_to_show_a_certificate(
    models_dir: Path, authority: trustme.CA, tls: dict[str, Any], write: Write
) -> None:
    client = authority.issue_cert("phone.example")
    root = authority.cert_pem.bytes()
    shown = grpc.ssl_channel_credentials(
        root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
    )
    settings = toy_settings(models_dir, **tls, tls_client_ca=write("ca.pem", authority.cert_pem))
    async with running(settings, Toy) as server:
        assert await service_name(server.address, shown) == "reaas.v1.EncoderService"
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await service_name(server.address, grpc.ssl_channel_credentials(root))
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_missing_certificate_files_are_a_clear_error(
    models_dir: Path, tls: dict[str, Any], tmp_path: Path
) -> None:
    settings = toy_settings(models_dir, **tls | {"tls_key": tmp_path / "none.pem"})
    with pytest.raises(ConfigurationError, match=r"none\.pem: No such file"):
        await start_server(settings, Toy, add_EncoderServiceServicer_to_server)
