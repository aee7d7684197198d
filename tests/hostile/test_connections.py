"""Peers that open and do not close: connections, half requests, streams that nobody reads."""

from __future__ import annotations

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from reaas.v1 import model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import RunningServer
from reaas_runtime.connections import most_connections
from reaas_runtime.peers import peer_host

from tests.hostile.service import TOY, Attacked, attacked
from tests.runtime.toy import Toy, toy_settings
from tests.support.models import conv_encoder, publish
from tests.support.servers import running
from tests.support.wire import deaf_request

# Of the loopback network, and not the address that the other client comes from.
OTHER_PEER = "127.0.0.2"
MOST = 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


@pytest_asyncio.fixture
async def server(models_dir: Path) -> AsyncIterator[RunningServer[Any]]:
    settings = toy_settings(models_dir, max_connections_per_peer=MOST)
    async with running(settings, Toy) as started:
        yield started


def connect(port: int, peer: str = OTHER_PEER, sent: bytes = PREFACE) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 10, source_address=(peer, 0))
    connection.sendall(sent)
    return connection


def is_open(connection: socket.socket) -> bool:
    """Whether the server has not closed it yet."""
    connection.setblocking(False)
    try:
        while data := connection.recv(65536):
            assert data
        return False
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("sent", [b"", PREFACE[:10], PREFACE])
async def test_a_peer_has_so_many_connections_and_the_first_are_kept(
    server: RunningServer[Any], sent: bytes
) -> None:
    opened = [connect(server.port, sent=sent) for _ in range(3 * MOST)]
    try:
        await until(lambda: sum(map(is_open, opened)) == MOST)
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = EncoderServiceStub(channel)
            await stub.GetInfo(model_pb2.GetInfoRequest(), timeout=10)
        assert all(map(is_open, opened[:MOST]))
    finally:
        for connection in opened:
            connection.close()
    await asyncio.sleep(0.6)
    again = connect(server.port)
    await asyncio.sleep(0.6)
    assert is_open(again), "room that was given back"
    again.close()


async def test_an_idle_connection_is_closed(models_dir: Path) -> None:
    async with running(toy_settings(models_dir, max_connection_idle_s=1.0), Toy) as server:
        idle = connect(server.port)
        try:
            await until(lambda: not is_open(idle))
        finally:
            idle.close()


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Attacked]:
    """A service that may open 1024 files, as a container often may."""
    publish(tmp_path / "models", conv_encoder())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    try:
        with attacked(TOY, tmp_path / "models", "--allow-anonymous") as service:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            yield service
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_1100_idle_connections_shut_nobody_out(few_files: Attacked) -> None:
    opened = []
    try:
        for _ in range(1100):
            opened.append(connect(few_files.port))
        time.sleep(1.5)
        for _ in range(3):
            assert few_files.health() == health_pb2.HealthCheckResponse.SERVING
        assert b"reaas_build_info" in urlopen(f"http://127.0.0.1:{few_files.metrics_port}").read()
    finally:
        for connection in opened:
            connection.close()


def test_half_requests_for_metrics_take_no_threads(few_files: Attacked) -> None:
    before = few_files.threads()
    opened = [
        connect(few_files.metrics_port, sent=b"GET /metrics HTTP/1.1\r\nX: ") for _ in range(100)
    ]
    try:
        time.sleep(0.5)
        assert few_files.threads() < before + 12
        answer = urlopen(f"http://127.0.0.1:{few_files.metrics_port}/metrics", timeout=10)
        assert b"reaas_build_info" in answer.read()
    finally:
        for connection in opened:
            connection.close()


async def test_a_watcher_that_reads_nothing_holds_up_nobody(models_dir: Path) -> None:
    """Who reports a change must not wait for those who were told of the last one."""
    async with running(toy_settings(models_dir), Toy) as server:
        deaf = [
            await asyncio.to_thread(deaf_request, server.port, "/grpc.health.v1.Health/Watch", b"")
            for _ in range(3)
        ]
        await asyncio.sleep(0.3)
        try:
            async with asyncio.timeout(5):
                for serving in (False, True, False, True):
                    await server.health.report(serving=serving)
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        finally:
            for connection in deaf:
                connection.close()


def test_more_connections_than_files_are_not_promised() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert most_connections(10) == 10
    assert most_connections(10**9) < soft


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:10.0.0.1:5000", "10.0.0.1"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", "10.0.0.1"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:5000", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::1]:5000", "2001:db8:1:2::/64"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_whose_connection_it_is(peer: str, host: str) -> None:
    assert peer_host(peer) == host
