"""What is on disk: damage, a full disk and a second service are clear errors."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.service.run import Run, RunState, Spec
from reaas_pretrain.service.store import RunStore
from reaas_runtime import ConfigurationError

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import create, ended, refused, service, until
from tests.support.servers import error_info


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("", "run.json"),
        ('{"id": 1', "run.json"),
        ("{}", "Field required"),
    ],
)
async def test_a_damaged_run_is_told_and_leaves_the_others_alone(
    house: Path, script: Script, damage: str, said: str
) -> None:
    script("true")
    async with service(house) as (_, stub):
        good, bad = await create(stub), await create(stub)
        for run in (good, bad):
            await ended(stub, run.id)
    (house / "runs" / bad.id / "run.json").write_text(damage)
    async with service(house) as (_, stub):
        error = await refused(stub.GetRun(pb.GetRunRequest(run_id=bad.id)))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error_info(error).reason == "RUN_BROKEN"
        assert said in (error.details() or "")
        listed = await stub.ListRuns(pb.ListRunsRequest())
        assert [run.id for run in listed.runs] == [good.id]
        assert (await create(stub)).id > bad.id


async def test_a_full_disk_is_told_and_nothing_has_happened(
    house: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("true")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with service(house) as (server, stub):
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            error = await refused(create(stub, request_id="a"))
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_info(error).reason == "STORAGE_FULL"
            assert "No space left on device" in (error.details() or "")
        assert not list((house / "runs").glob("*-*"))
        assert server.servicer.usable
        run = await create(stub, request_id="a")
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_SUCCEEDED


async def test_a_disk_that_is_full_for_a_while_holds_runs_up(
    house: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor cannot write that the run has ended; it tries again."""
    script("while [ ! -e ../../go ]; do sleep 0.02; done")
    tries = []

    def full(_: int) -> None:
        tries.append(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with service(house) as (_, stub):
        run = await create(stub)
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            (house / "go").touch()
            while len(tries) < 3:
                assert (await stub.GetRun(pb.GetRunRequest(run_id=run.id))).run.state in (
                    pb.RUN_STATE_QUEUED,
                    pb.RUN_STATE_RUNNING,
                )
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_SUCCEEDED


async def test_one_service_for_one_directory(house: Path) -> None:
    async with service(house):
        with pytest.raises(ConfigurationError, match="in use by another service"):
            async with service(house):
                pass
    async with service(house) as (server, _):
        assert server.servicer.usable


async def test_missing_directories_are_named(house: Path) -> None:
    for name in ("data_root", "recipes_dir"):
        with pytest.raises(ConfigurationError, match=rf"{name} .* is not a directory"):
            async with service(house, **{name: house / "absent"}):
                pass
    (house / "file").touch()
    with pytest.raises(ConfigurationError, match=r"runs_dir .* cannot be used"):
        async with service(house, runs_dir=house / "file"):
            pass


def test_ids_grow_even_if_the_clock_does_not(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.open()
    time = datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC)
    ids = []
    for _ in range(3):
        ids.append(store.new_id(time))
        run = Run(
            id=ids[-1],
            client_id="c",
            spec=Spec(recipe="r"),
            model_name="m",
            epochs=1,
            created=time,
        )
        store.create(run, "")
    store.close()
    assert ids == ["20261231-235959-999999", "20270101-000000-000000", "20270101-000000-000001"]
    again = RunStore(tmp_path)
    again.open()
    assert [run.id for run in again.runs(RunState.QUEUED)] == ids[::-1]
    again.close()


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("waits", [False, True])
async def test_a_full_disk_does_not_keep_a_run_from_ending(
    house: Path, script: Script, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    script("sleep 600")
    async with service(house) as (_, stub):
        first = await create(stub)
        run = await create(stub) if waits else first
        await until(stub, first.id, lambda run: run.state == pb.RUN_STATE_RUNNING)
        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", _full)
            await stub.CancelRun(pb.CancelRunRequest(run_id=run.id))
            found = await ended(stub, run.id)
            assert found.state == pb.RUN_STATE_CANCELLED
        file = house / "runs" / run.id / "run.json"
        async with asyncio.timeout(60):
            while Run.model_validate_json(file.read_bytes()).state is not RunState.CANCELLED:
                await asyncio.sleep(0.02)
        await stub.CancelRun(pb.CancelRunRequest(run_id=first.id))
        await ended(stub, first.id)


@pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING])
def test_a_cancel_that_could_not_be_written_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: RunState
) -> None:
    store = RunStore(tmp_path / "runs")
    store.open()
    created = datetime.now(UTC)
    run = Run(
        id=store.new_id(created),
        client_id="me",
        spec=Spec(recipe="small"),
        model_name="m",
        epochs=1,
        created=created,
        state=state,
    )
    store.create(run, "")
    monkeypatch.setattr(os, "fsync", _full)
    ends = state is RunState.QUEUED
    store.keep(run.over(RunState.CANCELLED) if ends else run.cancel_requested())
    store.close()  # Killed, and no room has come.
    monkeypatch.undo()
    again = RunStore(tmp_path / "runs")
    again.open()
    found = again.get(run.id)
    again.close()
    assert (found.state, found.cancelling) == (
        (RunState.CANCELLED, False) if ends else (RunState.RUNNING, True)
    )
