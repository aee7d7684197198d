"""Watching a run: every event once, in order, however often a watcher goes and comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.service.progress import Chunk, chunks, rows

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import create, ended, refused, service
from tests.support.servers import error_info

# Three epochs, one for each file that appears; log.csv is replaced as the trainer does it.
EPOCHS = """
mkdir -p training; echo epoch,loss,knn_top1 > log
for epoch in 1 2 3; do
  while [ ! -e ../../go$epoch ]; do sleep 0.02; done
  echo "$epoch,0.$epoch," >> log; cp log training/tmp; mv training/tmp training/log.csv
  echo "epoch $epoch"
done
printf 'no newline'
"""


async def events(stub: Any, run_id: str, **seen: int) -> list[pb.WatchRunResponse]:
    return await rest(stub.WatchRun(pb.WatchRunRequest(run_id=run_id, **seen)))


async def rest(stream: Any) -> list[pb.WatchRunResponse]:
    return [event async for event in stream]


def epochs(found: list[pb.WatchRunResponse]) -> list[int]:
    return [event.progress.epoch for event in found if event.HasField("progress")]


def text(found: list[pb.WatchRunResponse]) -> str:
    return "".join(event.log.text for event in found if event.HasField("log"))


async def test_watchers_see_it_all_and_can_come_back(house: Path, script: Script) -> None:
    script(EPOCHS)
    async with service(house) as (_, stub):
        run = await create(stub)
        watchers = [asyncio.create_task(events(stub, run.id)) for _ in range(5)]
        leaving = stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
        (house / "go1").touch()
        async for event in leaving:
            if event.HasField("log"):
                offset = event.log.end
                break
        leaving.cancel()
        (house / "go2").touch()
        (house / "go3").touch()
        for found in await asyncio.gather(*watchers):
            assert epochs(found) == [1, 2, 3]
            assert text(found) == "epoch 1\nepoch 2\nepoch 3\nno newline"
            assert found[0].HasField("run")
            assert found[-1].run.state == pb.RUN_STATE_SUCCEEDED
            assert found[-1].run.epochs_done == 3
            values = next(e.progress.values for e in found if e.HasField("progress"))
            assert dict(values) == {"epoch": 1.0, "loss": 0.1}
        later = await events(stub, run.id, after_epoch=1, log_offset=offset)
        assert epochs(later) == [2, 3]
        assert text(later) == "epoch 2\nepoch 3\nno newline"
        assert later[-1].run.state == pb.RUN_STATE_SUCCEEDED


async def test_a_stopping_service_lets_watchers_go(house: Path, script: Script) -> None:
    script("sleep 60")
    async with service(house, grace_seconds=60.0) as (server, stub):
        run = await create(stub)
        watching = aiter(stub.WatchRun(pb.WatchRunRequest(run_id=run.id)))
        assert (await anext(watching)).run.id == run.id
        async with asyncio.timeout(20):
            await server.drain(0.0)
        error = await refused(rest(watching))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert error_info(error).reason == "DRAINING"


async def test_watchers_are_bounded_and_leave_room_when_they_go(
    house: Path, script: Script
) -> None:
    script("sleep 60")
    async with service(house, max_watchers=1) as (server, stub):
        run = await create(stub)
        first = stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
        assert (await first.read()).run.id == run.id
        error = await refused(events(stub, run.id))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        second = stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
        async with asyncio.timeout(10):
            while await second.read() is grpc.aio.EOF:
                second = stub.WatchRun(pb.WatchRunRequest(run_id=run.id))
        second.cancel()
        await stub.CancelRun(pb.CancelRunRequest(run_id=run.id))
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_CANCELLED
        assert server.servicer.usable


def test_output_comes_in_whole_lines_until_it_is_complete(tmp_path: Path) -> None:
    (tmp_path / "output.log").write_bytes(b"one\n\xc3\xa9t")
    assert list(chunks(tmp_path, 0, complete=False)) == [Chunk("one\n", 4)]
    assert list(chunks(tmp_path, 4, complete=False)) == []
    assert list(chunks(tmp_path, 4, complete=True)) == [Chunk("ét", 7)]
    long = b"x" * 100_000 + b"\ny"
    (tmp_path / "output.log").write_bytes(long)
    assert "".join(c.text for c in chunks(tmp_path, 0, complete=True)).encode() == long
    assert list(chunks(tmp_path / "absent", 0, complete=True)) == []


def test_rows_leave_out_what_is_no_number(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "log.csv").write_text("epoch,loss,note\n1,nan,x\n2,0.5,\n")
    assert [(row.epoch, row.values) for row in rows(tmp_path)] == [
        (1, {"epoch": 1.0}),
        (2, {"epoch": 2.0, "loss": 0.5}),
    ]
    assert [row.epoch for row in rows(tmp_path, after_epoch=1)] == [2]
