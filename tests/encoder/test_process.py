"""The encoder as a process of its own: SIGTERM, a second signal, kill -9 and restart."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from reaas.v1 import encoder_pb2, model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas_runtime import as_tensor

from tests.support.servers import encoder_process

REQUEST = encoder_pb2.EncodeRequest(
    model=model_pb2.ModelRef(name="tiny"), inputs=as_tensor(np.zeros((2, 8, 8, 3), np.float32))
)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(process: subprocess.Popen[str], event: str) -> list[dict[str, Any]]:
    """Log lines up to the first one with `event`."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(json.loads(line))
        if lines[-1]["event"] == event:
            return lines
    raise AssertionError(f"the process ended without {event!r}: {lines}")


def encode(port: int, *, wait: bool = False) -> encoder_pb2.EncodeResponse:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        return EncoderServiceStub(channel).Encode(REQUEST, timeout=20, wait_for_ready=wait)


def test_sigterm_drains_and_ends_well(models_dir: Path, port: int) -> None:
    with encoder_process(models_dir, "--port", str(port), "--drain-seconds", "1") as process:
        wait_for(process, "model ready")
        assert len(encode(port).features.data) > 0
        process.send_signal(signal.SIGTERM)
        wait_for(process, "draining")
        assert len(encode(port).features.data) > 0, "a draining service still answers"
        wait_for(process, "stopped")
        assert process.wait(20) == 0
        with pytest.raises(grpc.RpcError) as refused:
            encode(port)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_ctrl_c_does_not_wait_for_balancers(models_dir: Path, port: int) -> None:
    with encoder_process(models_dir, "--port", str(port), "--drain-seconds", "600") as process:
        wait_for(process, "model ready")
        process.send_signal(signal.SIGINT)
        wait_for(process, "stopped")
        assert process.wait(20) == 0


def test_a_second_signal_ends_at_once(models_dir: Path, port: int) -> None:
    with encoder_process(models_dir, "--port", str(port), "--drain-seconds", "600") as process:
        wait_for(process, "model ready")
        process.send_signal(signal.SIGTERM)
        wait_for(process, "draining")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM


def test_kill_and_restart_gives_the_same_bits(models_dir: Path, port: int) -> None:
    with encoder_process(models_dir, "--port", str(port)) as process:
        wait_for(process, "model ready")
        before = encode(port)
        process.kill()
        assert process.wait(20) == -signal.SIGKILL
    with pytest.raises(grpc.RpcError) as refused:
        encode(port)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    with encoder_process(models_dir, "--port", str(port)) as process:
        wait_for(process, "model ready")
        after = encode(port, wait=True)
    assert after.features.data == before.features.data
    assert after.model == before.model


def test_no_usable_model_is_not_serving_but_alive(tmp_path: Path, port: int) -> None:
    with encoder_process(tmp_path, "--port", str(port)) as process:
        wait_for(process, "listening")
        with pytest.raises(grpc.RpcError) as refused:
            encode(port, wait=True)
        codes = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
        assert refused.value.code() in codes
        assert process.poll() is None
