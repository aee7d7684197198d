"""Files as exporters write them become encoders that are served, or say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from reaas_pretrain.adopt import Candidate
from reaas_pretrain.foreign import Wishes
from reaas_pretrain.manifest import resize_section
from reaas_pretrain.versions import PublishError

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "w": RANDOM.normal(size=(4, 3, 3, 3)) / 5,
    "l": RANDOM.normal(size=(4 * 16, 6)) / 8,
}
BODY = [
    helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1] * 4),
    helper.make_node("Relu", ["c"], ["r"]),
    helper.make_node("Flatten", ["r"], ["f"]),
    helper.make_node("MatMul", ["f", "l"], ["y"]),
]


def save(
    file: Path,
    nodes: list[Any] = BODY,
    dims: tuple[Any, ...] = ("N", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
    **more: Any,
) -> Path:
    constants = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in WEIGHTS.items()]
    constants += [numpy_helper.from_array(np.asarray(v), k) for k, v in more.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", kind, dims)],
        [value(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), file)
    return file


def features(candidate: Candidate, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(candidate.onnx_bytes)
    [found] = session.run(["feature"], {"input": images})
    return np.asarray(found)


IMAGES = RANDOM.random((3, 3, 8, 8), dtype=np.float32)


@pytest.fixture
def plain(tmp_path: Path) -> np.ndarray[Any, Any]:
    return features(Candidate.read(save(tmp_path / "plain.onnx")), IMAGES)


FIXED = [*BODY[:2], helper.make_node("Reshape", ["r", "s"], ["f"]), BODY[3]]
TURNED = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2])]
INNER = [helper.make_node("Conv", ["t", "w"], ["c"], strides=[2, 2], pads=[1] * 4), *BODY[1:]]
CASES: dict[str, tuple[dict[str, Any], Wishes]] = {
    "batch of 1": ({"nodes": FIXED, "dims": (1, 3, 8, 8), "s": [1, -1]}, Wishes()),
    "batch of 5": ({"nodes": FIXED, "dims": (5, 3, 8, 8), "s": [5, 64]}, Wishes()),
    "channels last": ({"nodes": TURNED + INNER, "dims": ("N", 8, 8, 3)}, Wishes()),
    "free size": ({"dims": ("N", 3, "h", "w")}, Wishes(size=(8, 8))),
    "opset 9": ({"opset": 9}, Wishes()),
    "a head": (
        {"nodes": [*BODY, helper.make_node("Sin", ["y"], ["z"])], "outputs": ("z",)},
        Wishes(output="y"),
    ),
    "two outputs": ({"outputs": ("f", "y")}, Wishes(output="y")),
}


@pytest.mark.parametrize("case", CASES)
def test_other_interfaces_give_the_same_features(
    case: str, tmp_path: Path, plain: np.ndarray[Any, Any]
) -> None:
    options, wishes = CASES[case]
    candidate = Candidate.read(save(tmp_path / "other.onnx", **options), wishes)
    assert candidate.steps
    assert np.allclose(features(candidate, IMAGES), plain, atol=1e-5)


def test_weights_beside_the_file_are_put_into_it(
    tmp_path: Path, plain: np.ndarray[Any, Any]
) -> None:
    model = onnx.load(save(tmp_path / "one.onnx"))
    file = tmp_path / "two.onnx"
    onnx.save(model, file, save_as_external_data=True, location="two.data", size_threshold=0)
    assert np.allclose(features(Candidate.read(file), IMAGES), plain, atol=1e-5)
    (tmp_path / "two.data").unlink()
    with pytest.raises(PublishError, match=r"two\.data, which isn't beside it"):
        Candidate.read(file)


def test_a_file_that_fits_is_published_byte_for_byte(tmp_path: Path) -> None:
    candidate = Candidate.read(save(tmp_path / "plain.onnx"))
    (tmp_path / "served.onnx").write_bytes(candidate.onnx_bytes)
    again = Candidate.read(tmp_path / "served.onnx")
    assert again.steps == ()
    assert again.onnx_bytes == candidate.onnx_bytes


def test_normalisation_is_put_in_front(tmp_path: Path, plain: np.ndarray[Any, Any]) -> None:
    wishes = Wishes(scale=255.0, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
    candidate = Candidate.read(save(tmp_path / "file.onnx"), wishes)
    mean, std = np.array([10, 20, 30.0]), np.array([2, 4, 8.0])
    images = IMAGES * std[:, None, None] + mean[:, None, None]
    found = features(candidate, (images / 255).astype(np.float32))
    assert np.allclose(found, plain, atol=1e-4)


def test_large_images_are_accepted_at_their_own_size() -> None:
    assert resize_section((320, 300))["max_size"] == [320, 300]
    assert resize_section((32, 2))["min_size"] == [4, 2]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "feature map": ({"nodes": BODY[:2], "outputs": ("r",)}, "--flatten"),
    "several outputs": ({"outputs": ("f", "y")}, "--output: f, y"),
    "free size": ({"dims": ("N", 3, "h", "w")}, "--size"),
    "no batch": ({"dims": (3, 8, 8)}, "batch axis"),
    "half precision": ({"kind": TensorProto.FLOAT16}, "float32"),
    "an operator late": (
        {"nodes": [*BODY, helper.make_node("Sin", ["y"], ["z"])], "outputs": ("z",)},
        "--output y",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_says_what_to_do(case: str, tmp_path: Path) -> None:
    options, what = REFUSED[case]
    with pytest.raises(PublishError, match=what):
        Candidate.read(save(tmp_path / "file.onnx", **options))
