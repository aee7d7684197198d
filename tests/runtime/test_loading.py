"""Versions that are slow, that hang, or that cannot be read hold up nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from onnx import TensorProto, helper
from reaas.v1.model_pb2 import ModelRef
from reaas_runtime import DomainError, LoadLimits, ModelEntry, ModelRepository, Reason

from tests.support.models import conv_encoder, manifest, publish
from tests.support.servers import encoder_process

ONNX = conv_encoder()


def until(condition: Callable[[], bool], look: Callable[[], None] = lambda: None) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "in vain"
        look()
        time.sleep(0.01)


def answers(repository: ModelRepository[str], name: str) -> bool:
    try:
        return bool(repository.resolve(ModelRef(name=name)).model)
    except DomainError:
        return False


def reason(repository: ModelRepository[str], name: str) -> Reason:
    with pytest.raises(DomainError) as refused:
        repository.resolve(ModelRef(name=name))
    return refused.value.reason


class Slow:
    """A loader that hangs for names that begin with 'slow'."""

    def __init__(self) -> None:
        self.leave = threading.Event()

    def __call__(self, entry: ModelEntry) -> str:
        if entry.manifest.name.startswith("slow"):
            assert self.leave.wait(60)
        return entry.manifest.version


def test_models_are_seen_as_they_become_ready(tmp_path: Path) -> None:
    load = Slow()
    repository = ModelRepository(tmp_path, load)
    for name in ("slow-a", "tiny"):
        publish(tmp_path, ONNX, manifest(ONNX, name))
    repository.look()
    until(lambda: answers(repository, "tiny"))
    assert reason(repository, "slow-a") is Reason.NOT_READY
    publish(tmp_path, ONNX, manifest(ONNX, "later"))
    until(lambda: answers(repository, "later"), repository.look)
    load.leave.set()
    until(lambda: answers(repository, "slow-a"))


def test_a_load_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    load = Slow()
    repository = ModelRepository(tmp_path, load, LoadLimits(seconds=0.2))
    for name in ("slow-a", "slow-b", "slow-c", "tiny"):
        publish(tmp_path, ONNX, manifest(ONNX, name))
    with structlog.testing.capture_logs() as logs:
        repository.refresh()
    assert answers(repository, "tiny")
    assert reason(repository, "slow-c") is Reason.MODEL_BROKEN
    assert "within 0.2 s" in next(log["why"] for log in logs if log["model"] == "slow-a")
    load.leave.set()
    time.sleep(0.1)
    assert reason(repository, "slow-a") is Reason.MODEL_BROKEN, "what came late is thrown away"


@pytest.mark.parametrize("file", ["model.onnx", "manifest.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "socket", "loop", "huge"])
def test_only_regular_files_are_read(tmp_path: Path, file: str, kind: str) -> None:
    publish(tmp_path, ONNX, manifest(ONNX, "good"))
    bad = publish(tmp_path, ONNX, manifest(ONNX, "bad")) / file
    bad.unlink()
    match kind:
        case "pipe":
            os.mkfifo(bad)
        case "device":
            bad.symlink_to("/dev/zero")
        case "directory":
            bad.mkdir()
        case "socket":
            bad.symlink_to("/dev/tty")
        case "loop":
            bad.symlink_to(bad.name)
        case "huge":
            with bad.open("wb") as opened:
                opened.truncate(10 << 30)
    repository = ModelRepository(tmp_path, lambda entry: entry.manifest.version)
    repository.refresh()
    assert answers(repository, "good")
    assert reason(repository, "bad") is Reason.MODEL_BROKEN


def test_what_failed_once_is_tried_again(tmp_path: Path) -> None:
    publish(tmp_path, ONNX, manifest(ONNX, "moody"))
    loads: list[float] = []

    def load(entry: ModelEntry) -> str:
        loads.append(time.monotonic())
        if len(loads) < 3:
            raise MemoryError
        return "well"

    repository = ModelRepository(tmp_path, load)
    with structlog.testing.capture_logs() as logs:
        repository.refresh()
        assert reason(repository, "moody") is Reason.MODEL_BROKEN
        until(lambda: answers(repository, "moody"), repository.look)
    assert len(loads) == 3
    assert loads[2] - loads[1] > loads[1] - loads[0], "later and later"
    assert len([log for log in logs if log["event"] == "model refused"]) == 1, "said once"


def test_a_version_that_becomes_readable_is_taken(tmp_path: Path) -> None:
    directory = publish(tmp_path, ONNX)
    (directory / "model.onnx").rename(tmp_path / "elsewhere")
    (directory / "model.onnx").symlink_to(tmp_path / "nowhere")
    repository = ModelRepository(tmp_path, lambda entry: entry.manifest.version)
    repository.refresh()
    assert reason(repository, "tiny") is Reason.MODEL_BROKEN
    (tmp_path / "elsewhere").rename(tmp_path / "nowhere")
    until(lambda: answers(repository, "tiny"), repository.look)


def stuck_onnx(entries: int = 2_000_000_000) -> bytes:
    """A legal encoder of a few hundred bytes whose constants ONNX Runtime folds for a long time."""

    def constant(name: str, value: int) -> TensorProto:
        return helper.make_tensor(name, TensorProto.INT64, [1], [value])

    nodes = [
        helper.make_node(
            "ConstantOfShape",
            ["s"],
            ["c"],
            value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0]),
        ),
        helper.make_node("ReduceSum", ["c"], ["r"], keepdims=0),
        helper.make_node("Flatten", ["input"], ["f"]),
        helper.make_node("Slice", ["f", "a", "b", "x"], ["g"]),
        helper.make_node("Add", ["g", "r"], ["feature"]),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["n", 8])],
        [constant("s", entries), constant("a", 0), constant("b", 8), constant("x", 1)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_a_process_serves_and_ends_while_a_load_hangs(models_dir: Path) -> None:
    """Gone within drain and grace after SIGTERM, although ONNX Runtime does not listen."""
    slow = stuck_onnx(300_000_000)
    publish(models_dir, slow, manifest(slow, "a-slow"))
    pipe = publish(models_dir, ONNX, manifest(ONNX, "b-pipe")) / "model.onnx"
    pipe.unlink()
    os.mkfifo(pipe)
    flags = ("--port", "0", "--drain-seconds", "0", "--grace-seconds", "2")
    with encoder_process(models_dir, *flags) as process:
        assert process.stderr is not None
        lines = iter(process.stderr)
        listening = next(line for line in lines if '"listening"' in line)
        address = listening.partition('"address": "')[2].partition('"')[0]
        next(line for line in lines if '"model ready"' in line)
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            until(
                lambda: (
                    stub.Check(health_pb2.HealthCheckRequest(), timeout=20).status
                    == health_pb2.HealthCheckResponse.SERVING
                )
            )
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(60) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("still there a minute after SIGTERM")


async def test_health_is_served_while_a_load_hangs(models_dir: Path) -> None:
    """In one event loop: `look` is never waited for."""
    load = Slow()
    publish(models_dir, ONNX, manifest(ONNX, "slow-a"))
    repository = ModelRepository(models_dir, load)
    async with asyncio.timeout(20):
        await asyncio.to_thread(repository.look)
        while not answers(repository, "tiny"):
            await asyncio.sleep(0.01)
    load.leave.set()
