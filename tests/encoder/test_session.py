from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from onnx import TensorProto, helper, load_from_string
from onnx.external_data_helper import set_external_data
from reaas_encoder import EncoderSession, session
from reaas_runtime import DomainError, Manifest, ModelEntry, Reason

from tests.support.models import FEATURE_DIM, build, conv_encoder, manifest

ONNX = conv_encoder()


def entry(onnx: bytes = ONNX, **changes: Any) -> ModelEntry:
    text = json.dumps(manifest(onnx, **changes))
    return ModelEntry(Manifest.model_validate_json(text), onnx)


def refusal(onnx: bytes) -> str:
    with pytest.raises(DomainError) as refused:
        EncoderSession(entry(onnx), [1, 2], "cpu")
    assert refused.value.reason is Reason.MODEL_BROKEN
    assert "'tiny' version '1' is broken" in refused.value.message
    return refused.value.message


def test_what_is_not_onnx_is_refused() -> None:
    for onnx in (b"", b"garbage", ONNX[: len(ONNX) // 2]):
        assert "ONNX Runtime refuses model.onnx" in refusal(onnx)


@pytest.mark.parametrize(
    "onnx",
    [
        pytest.param(conv_encoder(size=16), id="input size"),
        pytest.param(conv_encoder(feature_dim=FEATURE_DIM + 1), id="feature size"),
    ],
)
def test_a_graph_that_is_not_what_the_manifest_says_is_refused(onnx: bytes) -> None:
    assert "the graph's input and output are" in refusal(onnx)


def test_a_graph_with_two_inputs_is_refused() -> None:
    model = load_from_string(ONNX)
    extra = helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", 3])
    model.graph.input.append(extra)
    assert "the graph's input and output are" in refusal(model.SerializeToString())


def test_weights_outside_of_the_digest_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_from_string(ONNX)
    [weights] = [t for t in model.graph.initializer if t.name == "w"]
    (tmp_path / "weights.bin").write_bytes(weights.raw_data)
    monkeypatch.chdir(tmp_path)  # where ONNX Runtime would look for them
    set_external_data(weights, "weights.bin")
    weights.ClearField("raw_data")
    assert "External data" in refusal(model.SerializeToString())


def test_features_that_are_not_finite_are_never_returned() -> None:
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["linear"], transB=1),
        helper.make_node("Log", ["linear"], ["feature"]),
    ]
    weights = np.ones((FEATURE_DIM, 192), np.float32)
    onnx = build(nodes, {"w": weights}, (3, 8, 8), FEATURE_DIM)
    encoder = EncoderSession(entry(onnx), [1, 2], "cpu")
    assert np.isfinite(encoder.encode(np.ones((1, 3, 8, 8), np.float32))).all()
    with pytest.raises(DomainError, match="not finite"):
        encoder.encode(np.zeros((1, 3, 8, 8), np.float32))


def test_a_rest_below_every_size_is_padded() -> None:
    encoder = EncoderSession(entry(), [4, 8], "cpu")
    images = np.random.default_rng(0).random((13, 3, 8, 8), dtype=np.float32)
    pieces = encoder.split(images)
    assert [len(p) for p in pieces] == [8, 4, 1]
    features = np.concatenate([encoder.encode(p) for p in pieces])
    assert features.shape == (13, FEATURE_DIM)
    again = encoder.encode(images[12:])
    assert again.tobytes() == features[12:].tobytes()


def test_no_cuda_where_it_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime falls back to the CPU by itself; the service says so, or refuses."""
    monkeypatch.setattr(session, "cuda_available", lambda: True)
    with structlog.testing.capture_logs() as logs, pytest.warns(UserWarning, match="CUDA"):
        encoder = EncoderSession(entry(), [1, 2], "auto")
    assert encoder.providers == ["CPUExecutionProvider"]
    assert "CUDA is there but not used" in [log["event"] for log in logs]
    with (
        pytest.warns(UserWarning, match="CUDA"),
        pytest.raises(DomainError, match="device is cuda"),
    ):
        EncoderSession(entry(), [1, 2], "cuda")
