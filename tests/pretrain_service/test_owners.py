"""Who may end and publish a run, and what one client may take of the watchers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from reaas.v1 import pretrain_pb2 as pb
from reaas_runtime.keys import add_key

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import SPEC, refused, service
from tests.support.servers import error_info

ROLES = {"alice": ["operator"], "bob": ["operator"], "root": ["admin"]}


@pytest.fixture
def headers(house: Path) -> dict[str, Any]:
    file = house / "keys.txt"
    keys = {name: add_key(name, file, roles) for name, roles in ROLES.items()}
    return {name: (("authorization", f"Bearer {key}"),) for name, key in keys.items()}


async def made_by(stub: Any, metadata: Any) -> str:
    reply: pb.CreateRunResponse = await stub.CreateRun(
        pb.CreateRunRequest(spec=SPEC), metadata=metadata
    )
    return reply.run.id


async def test_only_its_owner_or_an_admin_ends_or_publishes_a_run(
    house: Path, script: Script, headers: dict[str, Any]
) -> None:
    script("sleep 60")
    async with service(house, api_keys_file=house / "keys.txt") as (_, stub):
        for role in ("alice", "root"):
            run_id = await made_by(stub, headers["alice"])
            for call, request in (
                (stub.CancelRun, pb.CancelRunRequest(run_id=run_id)),
                (stub.PublishRun, pb.PublishRunRequest(run_id=run_id)),
            ):
                for stranger in (headers["bob"], ()):  # () is the anonymous operator.
                    error = await refused(call(request, metadata=stranger))
                    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
                    assert error_info(error).metadata["field"] == "run_id"
            seen = await stub.GetRun(pb.GetRunRequest(run_id=run_id), metadata=headers["bob"])
            assert not seen.run.cancelling
            gone = await stub.CancelRun(pb.CancelRunRequest(run_id=run_id), metadata=headers[role])
            assert gone.run.cancelling or gone.run.state == pb.RUN_STATE_CANCELLED


async def test_an_admin_is_an_operator_too(
    house: Path, script: Script, headers: dict[str, Any]
) -> None:
    script("true")
    async with service(house, api_keys_file=house / "keys.txt") as (_, stub):
        assert await made_by(stub, headers["root"])


async def test_one_client_does_not_take_all_watchers(
    house: Path, script: Script, headers: dict[str, Any]
) -> None:
    script("sleep 60")
    limits = {"max_watchers": 4, "max_watchers_per_client": 2}
    async with service(house, api_keys_file=house / "keys.txt", **limits) as (_, stub):
        run_id = await made_by(stub, headers["alice"])

        def watch(client: str) -> Any:
            return stub.WatchRun(pb.WatchRunRequest(run_id=run_id), metadata=headers[client])

        kept = [watch("alice") for _ in range(2)]
        for stream in kept:
            assert (await stream.read()).HasField("run")
        error = await refused(watch("alice").read())
        assert error_info(error).reason == "QUEUE_FULL"
        assert "of client 'alice'" in (error.details() or "")
        kept += [watch("bob"), watch("bob")]
        for stream in kept[2:]:
            assert (await stream.read()).HasField("run")
        assert "4 watchers are there" in ((await refused(watch("root").read())).details() or "")
        for stream in kept:
            stream.cancel()
        while True:  # The places are free once the service has noticed.
            try:
                stream = watch("alice")
                assert (await stream.read()).HasField("run")
                break
            except grpc.aio.AioRpcError:
                continue
        stream.cancel()
