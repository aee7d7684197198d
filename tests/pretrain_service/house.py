"""A real pre-training service on a loopback port, with small recipes and small data."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from reaas.v1 import pretrain_pb2 as pb
from reaas.v1.pretrain_pb2_grpc import PretrainServiceStub, add_PretrainServiceServicer_to_server
from reaas_pretrain.service import PretrainServicer, PretrainSettings
from reaas_runtime import RunningServer

from tests.support.servers import running

RECIPE = """
name = "small"
description = "A recipe for tests."
[encoder]
channels = [4, 4, 4]
feature_dim = 6
[contrast]
queue = 16
[spectral]
weight = 0.3
[schedule]
epochs = 3
batch = 8
"""
SPEC = pb.RunSpec(recipe="small", dataset="pictures")
ENDED = (pb.RUN_STATE_SUCCEEDED, pb.RUN_STATE_FAILED, pb.RUN_STATE_CANCELLED)


def make_house(root: Path) -> Path:
    """Directories of a service: recipes, data, models and (not yet there) runs."""
    for name in ("recipes", "data/pictures", "models"):
        (root / name).mkdir(parents=True)
    (root / "recipes" / "small.toml").write_text(RECIPE)
    return root


def settings(house: Path, **changes: Any) -> PretrainSettings:
    """Settings of a service in `house`: ports of its own, open, quick to look and to end."""
    standard: dict[str, Any] = {
        "models_dir": house / "models",
        "runs_dir": house / "runs",
        "data_root": house / "data",
        "recipes_dir": house / "recipes",
        "port": 0,
        "metrics_port": 0,
        "allow_anonymous": True,
        "anonymous_operator": True,
        "supervise_s": 0.02,
        "watch_s": 0.02,
        "cancel_grace_s": 5.0,
        "model_poll_s": 0.05,
        "grace_seconds": 5.0,
    }
    return PretrainSettings(**standard | changes)


Server = RunningServer[PretrainServicer]


@asynccontextmanager
async def service(house: Path, **changes: Any) -> AsyncIterator[tuple[Server, Any]]:
    """A service in this process, ready, and a stub for it; drained at the end."""
    chosen = settings(house, **changes)
    async with (
        running(chosen, PretrainServicer, add_PretrainServiceServicer_to_server) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield server, PretrainServiceStub(channel)


async def create(stub: Any, spec: pb.RunSpec = SPEC, **fields: Any) -> pb.Run:
    """A new run."""
    reply: pb.CreateRunResponse = await stub.CreateRun(pb.CreateRunRequest(spec=spec, **fields))
    return reply.run


async def get(stub: Any, run_id: str) -> pb.Run:
    """A run as it is now."""
    reply: pb.GetRunResponse = await stub.GetRun(pb.GetRunRequest(run_id=run_id))
    return reply.run


async def until(stub: Any, run_id: str, reached: Callable[[pb.Run], bool]) -> pb.Run:
    """The run once `reached` is true of it."""
    async with asyncio.timeout(120):
        while not reached(run := await get(stub, run_id)):
            await asyncio.sleep(0.02)
    return run


async def ended(stub: Any, run_id: str) -> pb.Run:
    """The run once it has ended."""
    return await until(stub, run_id, lambda run: run.state in ENDED)


async def refused(call: Any) -> grpc.aio.AioRpcError:
    """The error that `call` ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value
