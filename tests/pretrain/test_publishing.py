"""What is published: the network that was trained, its true constants, all at once or nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from reaas_pretrain import evaluate, publishing
from reaas_pretrain.checkpoint import Checkpoint
from reaas_pretrain.evaluate import encode
from reaas_pretrain.onnx_graph import encoder_onnx, run_onnx
from reaas_pretrain.publishing import publish, standardise, trained_encoder
from reaas_pretrain.train import Trainer
from reaas_pretrain.versions import PublishError

from tests.pretrain.recipes import judge, random_images, tiny_recipe


@pytest.fixture(autouse=True)
def one_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quality is measured with one head instead of four."""
    monkeypatch.setattr(evaluate, "PROBE_NOISE", (0.0,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny recipe."""
    directory = tmp_path_factory.mktemp("run")
    Trainer(tiny_recipe(), random_images().images, directory, data="noise").run()
    return directory


def test_graph_is_the_six_operators_in_order(run: Path) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    model = onnx.load_from_string(encoder_onnx(encoder))
    operators = [node.op_type for node in model.graph.node]
    assert operators == ["Sub", "Div", "Conv", "Relu", "Conv", "Relu", "Flatten", "Gemm"]
    assert [value.name for value in model.graph.input] == ["input"]
    assert [value.name for value in model.graph.output] == ["feature"]


@pytest.mark.parametrize("batch", [1, 7])
def test_onnx_equals_torch(run: Path, batch: int) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    images = torch.rand(batch, 3, 9, 9)
    assert np.allclose(run_onnx(encoder_onnx(encoder), images), encoder(images), atol=1e-5)


def test_same_weights_same_digest(run: Path) -> None:
    once, again = (encoder_onnx(trained_encoder(Checkpoint.load(run))[1]) for _ in range(2))
    assert once == again


def test_standardised_features_are_centred_at_unit_scale(run: Path) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    images = random_images().images
    before = encode(encoder, images)
    factor = standardise(encoder, images)
    after = encode(encoder, images)
    assert torch.allclose(after, (before - before.mean(0)) * factor, atol=1e-4)
    assert float(after.square().mean()) == pytest.approx(1, rel=1e-4)


def test_published_encoder_and_manifest(run: Path, tmp_path: Path) -> None:
    data = random_images(60)
    done = publish(run, tmp_path, data.images, judge(data), "2")
    assert done.directory == tmp_path / "tiny" / "2"
    onnx_bytes = (done.directory / "model.onnx").read_bytes()
    manifest = json.loads((done.directory / "manifest.json").read_text())
    assert manifest["digest"] == "sha256:" + hashlib.sha256(onnx_bytes).hexdigest() == done.digest
    assert (manifest["name"], manifest["version"], manifest["schema"]) == ("tiny", "2", 1)
    assert manifest["input"]["shape"] == [9, 9, 3]
    assert manifest["feature"]["dim"] == 5
    assert manifest["training"]["epochs"] == 3
    assert manifest["training"]["data"] == "noise"
    assert set(manifest["quality"]) >= {"knn_top1", "linear_probe_top1", "constant_acr"}
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["2"]


def test_certified_constant_holds_for_the_published_file(run: Path, tmp_path: Path) -> None:
    data = random_images(60)
    done = publish(run, tmp_path, data.images, judge(data), "1")
    certified = done.manifest["certified"]
    _, encoder = trained_encoder(Checkpoint.load(run))
    standardise(encoder, data.images)
    images = torch.rand(200, 3, 9, 9, requires_grad=True)
    # The steepest of 200 images' steepest features is a lower bound of the Lipschitz constant.
    steepest = 0.0
    for feature in range(5):
        (gradient,) = torch.autograd.grad(encoder(images)[:, feature].sum(), images)
        steepest = max(steepest, float(gradient.flatten(1).norm(dim=1).max()))
    assert steepest <= certified["lipschitz"]
    assert certified["lipschitz"] <= np.prod(certified["layer_norms"]) * (1 + 1e-6)


def test_a_published_version_does_not_change(run: Path, tmp_path: Path) -> None:
    data = random_images(60)
    publish(run, tmp_path, data.images, judge(data), "1")
    with pytest.raises(PublishError, match="choose another version"):
        publish(run, tmp_path, data.images, judge(data), "1")
    publish(run, tmp_path, data.images, judge(data), "1", replace=True)


def test_versions_are_numbered_and_an_encoder_is_published_once(run: Path, tmp_path: Path) -> None:
    data = random_images(60)
    first = publish(run, tmp_path, data.images, None)
    again = publish(run, tmp_path, data.images, None)
    assert first.directory == again.directory == tmp_path / "tiny" / "1"
    assert first.manifest == again.manifest
    assert first.manifest["quality"] == {}
    other = publish(run, tmp_path, data.images[:30], None)  # standardised otherwise
    assert (other.directory.name, other.digest != first.digest) == ("2", True)


def test_a_wrong_graph_is_not_published(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    data = random_images(60)

    def wrong(model: bytes, images: torch.Tensor) -> np.ndarray:
        return run_onnx(model, images) * 1.01

    monkeypatch.setattr(publishing, "run_onnx", wrong)
    with pytest.raises(PublishError, match="the exported graph is wrong"):
        publish(run, tmp_path, data.images, judge(data), "1")
    assert not (tmp_path / "tiny").exists()
