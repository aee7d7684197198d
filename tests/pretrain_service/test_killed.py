"""kill -9 in the middle, with real trainings: the end is that of a run that nobody disturbed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import torch
from reaas.v1 import pretrain_pb2 as pb
from reaas.v1.pretrain_pb2_grpc import PretrainServiceStub
from reaas_pretrain.checkpoint import Checkpoint
from reaas_pretrain.service.local import LOCK

from tests.pretrain_service.house import ENDED, make_house

# Long enough to be killed in the middle several times, short enough to wait for.
SPEC = pb.RunSpec(recipe="small", dataset="pictures", epochs=120, seed=5)
# Numbers of a row that the clock decides.
CLOCK = {"seconds", "images_per_second", "augmentation_share"}


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def service_process(house: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m reaas_pretrain.service` as a process; killed at the end."""
    command = [sys.executable, "-m", "reaas_pretrain.service", "--port", str(port)]
    command += ["--metrics-port", "0", "--allow-anonymous", "--anonymous-operator"]
    command += ["--runs-dir", str(house / "runs"), "--models-dir", str(house / "models")]
    command += ["--data-root", str(house / "data"), "--recipes-dir", str(house / "recipes")]
    command += ["--threads", "1", "--supervise-s", "0.1", "--drain-seconds", "0"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("REAAS_")}
    process = subprocess.Popen(command, env=clean)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(stub: PretrainServiceStub, run_id: str, reached: Callable[[pb.Run], bool]) -> pb.Run:
    """The run once `reached` is true of it; the service may be on its way."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        request = pb.GetRunRequest(run_id=run_id)
        run = stub.GetRun(request, timeout=60, wait_for_ready=True).run
        if reached(run):
            return run
        time.sleep(0.02)
    raise AssertionError(f"not reached: {run}")


def trainer_of(directory: Path) -> int:
    """Process of a run's trainer: the child of the shell that holds the run's lock."""
    lock = (directory / LOCK).stat()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            files = [os.stat(file) for file in (process / "fd").iterdir()]
            holds = any((f.st_dev, f.st_ino) == (lock.st_dev, lock.st_ino) for f in files)
            if holds and b"reaas_pretrain" in (process / "cmdline").read_bytes().split(b"\0")[2]:
                return int(process.name)
        except (OSError, IndexError):
            continue
    raise AssertionError("no trainer is there")


def last_state(directory: Path) -> Checkpoint:
    return Checkpoint.load(directory / "training")


def computed(row: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in row.items() if key not in CLOCK}


@pytest.mark.slow
def test_killed_runs_end_as_undisturbed_ones(tmp_path: Path, pictures: Path, port: int) -> None:
    house = make_house(tmp_path / "house")
    (house / "data" / "pictures").rmdir()
    (house / "data" / "pictures").symlink_to(pictures)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = PretrainServiceStub(channel)
        with service_process(house, port) as process:
            create = pb.CreateRunRequest(spec=SPEC, request_id="disturbed")
            run = stub.CreateRun(create, timeout=60, wait_for_ready=True).run
            directory = house / "runs" / run.id
            until(stub, run.id, lambda run: run.epochs_done >= 3)
            process.kill()
            process.wait()
        trainer = trainer_of(directory)
        with service_process(house, port):
            found = until(stub, run.id, lambda run: run.epochs_done >= 6)
            assert (found.state, found.restarts) == (pb.RUN_STATE_RUNNING, 0), "not adopted"
            assert trainer_of(directory) == trainer
            os.kill(trainer, signal.SIGKILL)
            until(stub, run.id, lambda run: run.restarts == 1)
            found = until(stub, run.id, lambda run: run.epochs_done >= 20)
            assert found.state == pb.RUN_STATE_RUNNING
        # The service is gone again, and its run ends while nobody looks.
        os.kill(trainer_of(directory), signal.SIGKILL)
        with service_process(house, port):
            again = stub.CreateRun(create, timeout=60, wait_for_ready=True).run
            assert again.id == run.id
            calm = stub.CreateRun(pb.CreateRunRequest(spec=SPEC)).run
            for run_id in (run.id, calm.id):
                done = until(stub, run_id, lambda run: run.state in ENDED)
                assert done.state == pb.RUN_STATE_SUCCEEDED, done.reason
                assert done.epochs_done == done.epochs == 120
    disturbed, undisturbed = last_state(directory), last_state(house / "runs" / calm.id)
    assert disturbed.step == undisturbed.step
    for key, value in undisturbed.model.items():
        assert torch.equal(disturbed.model[key], value), key
    assert [computed(row) for row in disturbed.history] == [
        computed(row) for row in undisturbed.history
    ]
