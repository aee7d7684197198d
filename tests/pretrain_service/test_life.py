"""The life of runs: queue, success, failure, death, cancellation, restarts of the service."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pytest
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.service.launcher import last_words
from reaas_pretrain.service.run import Run

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import create, ended, get, service, until
from tests.support.servers import scrape

WAIT = "echo begun >> attempts; while [ ! -e ../../go ]; do sleep 0.02; done"


def running(run: pb.Run) -> bool:
    return run.state == pb.RUN_STATE_RUNNING


async def has_begun(directory: Path, attempts: int = 1) -> None:
    """Return when the script of a run has begun so often."""
    async with asyncio.timeout(60):
        while not (file := directory / "attempts").exists() or (
            file.read_text().count("begun") < attempts
        ):
            await asyncio.sleep(0.02)


async def test_a_run_that_ends_well_succeeds(house: Path, script: Script) -> None:
    script("echo hello; ls > seen")
    async with service(house) as (server, stub):
        run = await ended(stub, (await create(stub)).id)
        assert run.state == pb.RUN_STATE_SUCCEEDED
        assert run.reason == ""
        assert run.create_time.ToDatetime() <= run.start_time.ToDatetime()
        assert run.start_time.ToDatetime() <= run.end_time.ToDatetime()
        assert "recipe.toml" in (house / "runs" / run.id / "seen").read_text()
        samples = await scrape(server)
        assert samples["reaas_pretrain_runs{state=SUCCEEDED}"] == 1
        assert samples["reaas_pretrain_run_seconds_total{recipe=small}"] > 0


async def test_an_error_of_its_own_fails_a_run_at_once(house: Path, script: Script) -> None:
    script("echo begun >> attempts; echo working; echo 'Error: no such thing' >&2; exit 1")
    async with service(house) as (_, stub):
        run = await ended(stub, (await create(stub)).id)
        assert run.state == pb.RUN_STATE_FAILED
        assert run.reason == "Error: no such thing"
        assert run.restarts == 0


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("", ""),
        ("working\n\n", "working"),
        ("Error: recipe x: unknown key y\n", "Error: recipe x: unknown key y"),
        ("File a\nOSError: [Errno 28] No space\n====\nat: 1\n", "OSError: [Errno 28] No space"),
        ("x" * 40_000 + "\nValueError: late\n", "ValueError: late"),
    ],
)
def test_the_reason_is_the_last_error(tmp_path: Path, printed: str, words: str) -> None:
    (tmp_path / "log").write_text(printed)
    assert last_words(tmp_path / "log") == words
    assert last_words(tmp_path / "absent") == ""


async def test_a_run_that_dies_again_and_again_fails_in_the_end(
    house: Path, script: Script
) -> None:
    script("echo begun >> attempts; kill -9 $$")
    async with service(house, max_restarts=2) as (_, stub):
        run = await ended(stub, (await create(stub)).id)
        assert run.state == pb.RUN_STATE_FAILED
        assert (
            run.reason == "its process was killed by signal 9, after 2 restarts without a new epoch"
        )
        assert (house / "runs" / run.id / "attempts").read_text().count("begun") == 3


async def test_a_run_that_gets_on_between_its_deaths_goes_on(house: Path, script: Script) -> None:
    """Six deaths with two restarts allowed: each attempt has one more epoch behind it."""
    script(
        "echo begun >> attempts; n=$(wc -l < attempts); mkdir -p training; "
        "(echo epoch; seq $n) > training/log.csv; [ $n -gt 6 ] || kill -9 $$"
    )
    async with service(house, max_restarts=2) as (_, stub):
        run = await ended(stub, (await create(stub)).id)
        assert (run.state, run.restarts) == (pb.RUN_STATE_SUCCEEDED, 6)


async def test_deaths_count_from_the_last_new_epoch(house: Path, script: Script) -> None:
    script(
        "echo begun >> attempts; n=$(wc -l < attempts); mkdir -p training; "
        "[ $n -gt 3 ] || (echo epoch; seq $n) > training/log.csv; kill -9 $$"
    )
    async with service(house, max_restarts=2) as (_, stub):
        run = await ended(stub, (await create(stub)).id)
        assert (run.state, run.epochs_done) == (pb.RUN_STATE_FAILED, 3)
        assert run.restarts == 4, "one restart for the second and the third epoch, then two"


async def test_no_more_runs_at_once_than_allowed_and_the_oldest_first(
    house: Path, script: Script
) -> None:
    script(WAIT)
    async with service(house, max_running=2) as (_, stub):
        runs = [(await create(stub)).id for _ in range(3)]
        for run_id in sorted(runs)[:2]:
            await until(stub, run_id, running)
        waiting = await get(stub, sorted(runs)[2])
        assert waiting.state == pb.RUN_STATE_QUEUED
        (house / "go").touch()
        for run_id in runs:
            assert (await ended(stub, run_id)).state == pb.RUN_STATE_SUCCEEDED


async def test_cancelling(house: Path, script: Script) -> None:
    """One that waits, one that runs, and one that has ended."""
    script(WAIT)
    async with service(house) as (_, stub):
        first, second = sorted([(await create(stub)).id for _ in range(2)])
        await has_begun(house / "runs" / first)
        waiting = (await stub.CancelRun(pb.CancelRunRequest(run_id=second))).run
        assert waiting.state == pb.RUN_STATE_CANCELLED
        assert (await stub.CancelRun(pb.CancelRunRequest(run_id=first))).run.cancelling
        assert (await ended(stub, first)).state == pb.RUN_STATE_CANCELLED
        again = (await stub.CancelRun(pb.CancelRunRequest(run_id=first))).run
        assert again.state == pb.RUN_STATE_CANCELLED
        assert not again.cancelling
        assert not (house / "runs" / second / "attempts").exists()


async def test_cancelling_while_another_run_is_launched(house: Path, script: Script) -> None:
    script("true")
    launching, go = threading.Event(), threading.Event()
    async with service(house, max_running=2, supervise_s=1.0) as (server, stub):
        launcher = server.servicer.launcher
        # Both wait for the same look.
        server.servicer.supervisor.wake = lambda: None  # type: ignore[method-assign]
        start = launcher.start

        def slow(run: Run) -> None:
            launching.set()
            assert go.wait(60)
            start(run)

        launcher.start = slow  # type: ignore[method-assign]
        first, second = [(await create(stub)).id for _ in range(2)]
        assert await asyncio.to_thread(launching.wait, 60)
        await stub.CancelRun(pb.CancelRunRequest(run_id=second))
        go.set()
        assert (await ended(stub, first)).state == pb.RUN_STATE_SUCCEEDED
        assert (await get(stub, second)).state == pb.RUN_STATE_CANCELLED
        assert not (house / "runs" / second / "status").exists()


async def test_a_process_that_ignores_sigterm_is_killed(house: Path, script: Script) -> None:
    script(f"trap '' TERM; {WAIT}")
    async with service(house, cancel_grace_s=0.2) as (_, stub):
        run = await create(stub)
        await has_begun(house / "runs" / run.id)
        await stub.CancelRun(pb.CancelRunRequest(run_id=run.id))
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_CANCELLED


async def test_runs_end_with_the_service_and_go_on_at_its_next_start(
    house: Path, script: Script
) -> None:
    script(f"echo $$ > pid; {WAIT}")
    async with service(house) as (_, stub):
        run = await create(stub)
        waiting = await create(stub)
        await has_begun(house / "runs" / run.id)
    pid = int((house / "runs" / run.id / "pid").read_text())
    async with asyncio.timeout(10):  # killed; init may not have buried it yet
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.02)
    async with service(house) as (_, stub):
        await has_begun(house / "runs" / run.id, attempts=2)
        assert (await get(stub, run.id)).restarts == 0, "a stop is no failure of the run"
        (house / "go").touch()
        for run_id in (run.id, waiting.id):
            assert (await ended(stub, run_id)).state == pb.RUN_STATE_SUCCEEDED


async def test_a_run_that_was_being_cancelled_does_not_go_on(house: Path, script: Script) -> None:
    script(f"trap '' TERM; {WAIT}")
    async with service(house, cancel_grace_s=0.3) as (_, stub):
        run = await create(stub)
        await has_begun(house / "runs" / run.id)
        await stub.CancelRun(pb.CancelRunRequest(run_id=run.id))
    async with service(house) as (_, stub):
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_CANCELLED


async def test_a_killed_process_goes_on_and_the_reason_says_so(house: Path, script: Script) -> None:
    script(f"echo $$ > pid; {WAIT}")
    async with service(house) as (_, stub):
        run = await create(stub)
        directory = house / "runs" / run.id
        await has_begun(directory)
        os.kill(int((directory / "pid").read_text()), signal.SIGKILL)
        await has_begun(directory, attempts=2)
        assert (await until(stub, run.id, running)).restarts == 1
        os.killpg(os.getpgid(int((directory / "pid").read_text())), signal.SIGKILL)
        await has_begun(directory, attempts=3)
        (house / "go").touch()
        done = await ended(stub, run.id)
        assert done.state == pb.RUN_STATE_SUCCEEDED
        assert done.restarts == 2
