"""Keys while a service runs: whatever happens to the file or to a model, a revoked key ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime.keys import add_key

from tests.runtime.test_server import bearer, client_id
from tests.runtime.toy import Toy, request, toy_settings
from tests.support.models import conv_encoder, manifest, publish
from tests.support.servers import error_info, running, scrape


class House:
    """A running toy with the keys of alice and bob, and the file that they stand in."""

    def __init__(self, server: Any, stub: Any, file: Path, alice: str, bob: str) -> None:
        self.server, self.stub, self.file = server, stub, file
        self.alice, self.bob = alice, bob
        self.lines = file.read_text().splitlines()

    async def until(self, key: str, client: str | None) -> None:
        async with asyncio.timeout(20):
            while await client_id(self.stub, key) != client:
                await asyncio.sleep(0.02)

    async def stale(self, found: Callable[[float], bool]) -> None:
        async with asyncio.timeout(20):
            while not found((await scrape(self.server))["reaas_keys_stale_seconds{}"]):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def house(models_dir: Path, tmp_path: Path, **settings: Any) -> AsyncIterator[House]:
    file = tmp_path / "keys"
    alice, bob = (add_key(client, file) for client in ("alice", "bob"))
    chosen = {"api_keys_file": file, "allow_anonymous": False, "keys_poll_s": 0.05}
    arguments = toy_settings(models_dir, **chosen | settings)
    async with (
        running(arguments, Toy) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield House(server, EncoderServiceStub(channel), file, alice, bob)
        server.servicer.release.set()


def bob_and(faulty: bytes) -> Callable[[House], bytes]:
    return lambda house: house.lines[1].encode() + b"\n" + faulty


@pytest.mark.parametrize(
    "raw",
    [
        lambda house: house.lines[1].encode(),
        bob_and(b"caf\xe9: " + b"a" * 64 + b"\n"),
        bob_and(b"\xff\xfe\x00garbage\n"),
        bob_and(b"bob: " + b"0" * 64),
        bob_and(b"x" * 5000),
        bob_and(b"alice: revoked\n"),
    ],
)
async def test_a_key_that_is_gone_is_refused_whatever_else_the_file_says(
    models_dir: Path, tmp_path: Path, raw: Callable[[House], bytes]
) -> None:
    async with house(models_dir, tmp_path) as at:
        at.file.write_bytes(raw(at))
        await at.until(at.alice, None)
        assert await client_id(at.stub, at.bob) == "bob"


async def test_an_empty_file_revokes_all(models_dir: Path, tmp_path: Path) -> None:
    async with house(models_dir, tmp_path) as at:
        at.file.write_bytes(b"")
        await at.until(at.alice, None)
        await at.until(at.bob, None)


async def test_a_faulty_line_keeps_the_key_whose_hash_it_has(
    models_dir: Path, tmp_path: Path
) -> None:
    async with house(models_dir, tmp_path) as at:
        at.file.write_text(f"{at.lines[0]} wizard\n{at.lines[1]}\n")
        await at.stale(lambda seconds: seconds > 0.2)
        assert await client_id(at.stub, at.alice) == "alice"
        assert await client_id(at.stub, at.bob) == "bob"


def _delete(file: Path) -> None:
    file.unlink()


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def _huge(file: Path) -> None:
    with file.open("wb") as opened:
        opened.truncate(100 << 20)


@pytest.mark.parametrize("spoil", [_delete, _pipe, _directory, _huge])
async def test_a_file_that_says_nothing_keeps_the_keys_and_shows(
    models_dir: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    with structlog.testing.capture_logs() as logs:
        async with house(models_dir, tmp_path) as at:
            await at.stale(lambda seconds: seconds == 0)
            spoil(at.file)
            await at.stale(lambda seconds: seconds > 0.5)
            assert await client_id(at.stub, at.alice) == "alice"
            if at.file.is_dir():
                at.file.rmdir()
            else:
                at.file.unlink(missing_ok=True)
            at.file.write_text(at.lines[1])  # heals, without alice
            await at.until(at.alice, None)
            await at.stale(lambda seconds: seconds == 0)
            assert await client_id(at.stub, at.bob) == "bob"
    complaints = [log for log in logs if "not taken over" in log["event"]]
    reasons = [log["why"] for log in complaints]
    assert len(reasons) == len(set(reasons)), "said once, not at every look"
    assert all(str(at.file) in why for why in reasons)


async def test_a_secret_that_is_swapped_by_links(models_dir: Path, tmp_path: Path) -> None:
    """As Kubernetes replaces a mounted secret: the file is a link through a link."""
    mount = tmp_path / "mount"
    (mount / "1").mkdir(parents=True)
    alice = add_key("alice", mount / "1/keys")
    (mount / "..data").symlink_to("1")
    (mount / "keys").symlink_to("..data/keys")
    async with house(models_dir, tmp_path, api_keys_file=mount / "keys") as at:
        assert await client_id(at.stub, alice) == "alice"
        (mount / "2").mkdir()
        carol = add_key("carol", mount / "2/keys")
        (mount / "new").symlink_to("2")
        (mount / "new").rename(mount / "..data")
        await at.until(carol, "carol")
        assert await client_id(at.stub, alice) is None


async def test_no_model_keeps_a_revoked_key_alive(models_dir: Path, tmp_path: Path) -> None:
    async with house(models_dir, tmp_path) as at:
        at.server.servicer.warm.clear()
        publish(models_dir, conv_encoder(), manifest(conv_encoder(), "stuck"))
        pipe = publish(models_dir, b"", manifest(b"", "pipe")) / "model.onnx"
        pipe.unlink()
        os.mkfifo(pipe)
        await asyncio.sleep(0.2)
        at.file.write_text(at.lines[1])
        await at.until(at.alice, None)
        at.server.servicer.warm.set()


async def test_a_stream_ends_with_its_key(models_dir: Path, tmp_path: Path) -> None:
    async with house(models_dir, tmp_path) as at:
        stream = at.stub.EncodeStream(metadata=bearer(at.alice))
        await stream.write(request())
        assert (await stream.read()).model.name == "tiny"
        at.file.write_text(at.lines[1])
        await at.until(at.alice, None)
        await stream.write(request())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert error_info(ended.value).reason == "UNAUTHENTICATED"
