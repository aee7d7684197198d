"""Metadata that is doubled, disguised or out of bounds: refused before any work, and not billed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime.keys import add_key

from tests.hostile.service import UNLIMITED
from tests.runtime.toy import Toy, request, toy_settings
from tests.support.servers import error_info, running, scrape

DRAWS = [
    "", " ", "0", "00", "01", "0000000019999", "10000001", "-1", "+1", "1.0", "1e3", "0x10", "1_0",
    "1 ", " 1", "9" * 409, "000000001" + "9" * 400, "9" * 4000, "nan", "inf", "1,1",
]  # fmt: skip


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@pytest.mark.parametrize("value", DRAWS)
async def test_draws_that_are_no_number_in_range(models_dir: Path, value: str) -> None:
    await _refused(models_dir, (("x-reaas-draws", value),), "INVALID_METADATA")


@pytest.mark.parametrize("key", ["x-reaas-draws", "x-reaas-scheme", "x-reaas-phase", "x-reaas-new"])
async def test_product_metadata_twice(models_dir: Path, key: str) -> None:
    value = {"x-reaas-scheme": "reaas", "x-reaas-phase": "test"}.get(key, "1")
    await _refused(models_dir, ((key, value), (key, value)), "INVALID_METADATA")


@pytest.mark.parametrize("first", ["Bearer right", "Bearer wrong", "Basic x", ""])
async def test_two_authorizations(models_dir: Path, tmp_path: Path, first: str) -> None:
    """Whichever of them is right: a proxy in between may have looked at the other."""
    keys = tmp_path / "keys.txt"
    key = add_key("alice", keys)
    pair = ("authorization", first.replace("right", key))
    for metadata in ((pair, *bearer(key)), (*bearer(key), pair)):
        await _refused(
            models_dir, metadata, "UNAUTHENTICATED", api_keys_file=keys, allow_anonymous=False
        )


async def test_draws_at_the_ends_are_taken(models_dir: Path) -> None:
    async with (
        running(toy_settings(models_dir), Toy) as server,
        grpc.aio.insecure_channel(server.address, UNLIMITED) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        for value in ("1", "10000000"):
            await stub.Encode(request(), metadata=(("x-reaas-draws", value),))


async def test_who_gets_internal_has_not_paid(models_dir: Path) -> None:
    async with (
        running(toy_settings(models_dir), Toy) as server,
        grpc.aio.insecure_channel(server.address, UNLIMITED) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Encode(request("bug"), metadata=(("x-reaas-draws", "7"),))
        assert failed.value.code() is grpc.StatusCode.INTERNAL
        assert not _billed(await scrape(server))


async def _refused(models_dir: Path, metadata: Any, reason: str, **settings: Any) -> None:
    async with (
        running(toy_settings(models_dir, **settings), Toy) as server,
        grpc.aio.insecure_channel(server.address, UNLIMITED) as channel,
    ):
        stub: Any = EncoderServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Encode(request("slow"), metadata=metadata, timeout=20)
        assert error_info(refused.value).reason == reason
        assert len(refused.value.details() or "") < 1000
        assert not server.servicer.working.is_set(), "refused after the work was begun"
        assert not _billed(await scrape(server))


def _billed(metrics: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if k.startswith("reaas_queries_total") and v}
