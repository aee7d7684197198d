"""Many runs, each with a fate of its own, while callers cancel and the service comes and goes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.service.local import LOCK, _held

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import SPEC, create, ended, get, service

# A run ends as its directory's name says: well, by an error, or by a signal at its first attempt.
FATE = """
echo $$ > pid; sleep 0.$(($$ % 3))
case $(basename $PWD) in
  *[0-5]) exit 0;;
  *[67]) echo 'Error: fate'; exit 1;;
  *) [ -e died ] && exit 0; touch died; kill -9 $$;;
esac
"""


def expected(run: pb.Run) -> int:
    if run.id[-1] in "67":
        return pb.RUN_STATE_FAILED
    return pb.RUN_STATE_SUCCEEDED


async def disturb(house: Path, stub: Any, runs: list[str], cancelled: set[str]) -> None:
    """Cancel a run, or kill the process of one."""
    run_id = random.choice(runs)
    if random.random() < 0.5:
        reply = await stub.CancelRun(pb.CancelRunRequest(run_id=run_id))
        if reply.run.state not in (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED):
            cancelled.add(run_id)
        return
    directory = house / "runs" / run_id
    if (directory / "pid").exists() and _held(directory / LOCK):
        try:
            os.kill(int((directory / "pid").read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            return


@pytest.mark.parametrize("seed", range(2))
async def test_every_run_ends_as_it_should(house: Path, script: Script, seed: int) -> None:
    script(FATE)
    random.seed(seed)
    cancelled: set[str] = set()
    runs: list[str] = []
    settings = {"max_running": 4, "max_restarts": 50, "cancel_grace_s": 0.5}
    for _ in range(4):
        async with service(house, **settings) as (_server, stub):
            runs += [(await create(stub, SPEC)).id for _ in range(6)]
            for _ in range(8):
                await disturb(house, stub, runs, cancelled)
                await asyncio.sleep(0.05 * random.random())
    async with service(house, **settings) as (_server, stub):
        for run_id in runs:
            run = await ended(stub, run_id)
            if run_id in cancelled:
                # It may have ended by itself before the signal came.
                assert run.state in (pb.RUN_STATE_CANCELLED, expected(run)), run
            else:
                assert run.state == expected(run), run
        listed = await stub.ListRuns(pb.ListRunsRequest())
        assert [run.id for run in listed.runs] == runs[::-1]
        assert not any(_held(house / "runs" / run_id / LOCK) for run_id in runs)
        with pytest.raises(grpc.aio.AioRpcError):
            await get(stub, "absent")
