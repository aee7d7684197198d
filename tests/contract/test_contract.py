"""The committed stubs are those of the contract, and the contract keeps its own rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from reaas.v1 import encoder_pb2, f2i_pb2

ROOT = Path(__file__).resolve().parents[2]
BUF = str(Path(sys.executable).parent / "buf")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([sys.executable, "scripts/generate_stubs.py", "--check"], id="stubs-current"),
        pytest.param([sys.executable, "scripts/check_breaking.py"], id="nothing-broken"),
        pytest.param([BUF, "lint"], id="lint"),
        pytest.param([BUF, "format", "--diff", "--exit-code"], id="format"),
    ],
)
def test_contract_check_passes(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("service", "method", "stream"),
    [
        (encoder_pb2.DESCRIPTOR.services_by_name["EncoderService"], "Encode", "EncodeStream"),
        (f2i_pb2.DESCRIPTOR.services_by_name["F2IService"], "Perturb", "PerturbStream"),
    ],
)
def test_stream_twin_carries_the_messages_of_its_method(
    service: object, method: str, stream: str
) -> None:
    methods = service.methods_by_name  # type: ignore[attr-defined]
    unary, twin = methods[method], methods[stream]
    assert twin.client_streaming
    assert twin.server_streaming
    assert (twin.input_type, twin.output_type) == (unary.input_type, unary.output_type)


def test_every_reply_names_the_exact_model() -> None:
    for reply in (encoder_pb2.EncodeResponse, f2i_pb2.PerturbResponse):
        kind = reply.DESCRIPTOR.fields_by_name["model"].message_type
        assert kind is not None
        assert kind.full_name == "reaas.v1.ModelRef"
