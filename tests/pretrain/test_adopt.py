"""Encoders trained elsewhere are certified and published as they are, or refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper
from reaas_pretrain.__main__ import main
from reaas_pretrain.adopt import Candidate, adopt, recertify
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.onnx_graph import encoder_onnx
from reaas_pretrain.versions import PublishError
from reaas_runtime.repository import read_entry

from tests.pretrain.recipes import judge, random_images, tiny_recipe


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An encoder of 9 x 9 images as ONNX."""
    torch.manual_seed(0)
    path = tmp_path / "theirs.onnx"
    path.write_bytes(encoder_onnx(ConvEncoder(tiny_recipe().encoder).eval()))
    return path


def test_a_file_is_published_once_with_its_constants(file: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    done = adopt(
        Candidate.read(file), models, "theirs", judge(random_images(60)), description="of the house"
    )
    entry = read_entry(models / "theirs" / "1", "theirs", "1")
    assert entry.manifest.certified.lipschitz == done.manifest["certified"]["lipschitz"] > 0
    assert (entry.manifest.input.shape, entry.manifest.feature.dim) == ((9, 9, 3), 5)
    assert entry.manifest.description == "of the house"
    assert entry.manifest.quality["dataset"] == "noise"
    assert (done.directory / "model.onnx").read_bytes() == file.read_bytes()
    assert adopt(Candidate.read(file), models, "theirs", None).directory == done.directory
    with pytest.raises(PublishError, match="choose another version"):
        adopt(Candidate.read(file), models, "theirs", None, version="1")


def test_an_operator_without_a_bound_is_named(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"], name="flat"),
            helper.make_node("Sin", ["flat"], ["feature"], name="last"),
        ],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", 48])],
    )
    file = tmp_path / "sine.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(PublishError, match=r"sine\.onnx can't be certified.*Sin"):
        adopt(Candidate.read(file), tmp_path / "models", "sine", None)
    assert not (tmp_path / "models").exists()


def test_constants_are_proved_anew_and_the_digest_stays(file: Path, tmp_path: Path) -> None:
    done = adopt(Candidate.read(file), tmp_path / "models", "theirs", None)
    manifest = json.loads((done.directory / "manifest.json").read_text())
    loose = manifest | {"certified": manifest["certified"] | {"lipschitz": 1e6}}
    (done.directory / "manifest.json").write_text(json.dumps(loose))
    renewed = recertify(done.directory)
    assert renewed.digest == done.digest
    assert json.loads((done.directory / "manifest.json").read_text()) == manifest
    (done.directory / "model.onnx").write_bytes(b"something else")
    with pytest.raises(PublishError, match="its manifest says"):
        recertify(done.directory)


def test_commands_say_what_they_did_in_words(file: Path, tmp_path: Path) -> None:
    models = str(tmp_path / "models")
    adopted = CliRunner().invoke(main, ["adopt", str(file), "--models", models, "--name", "theirs"])
    assert adopted.exit_code == 0, adopted.output
    assert "Lipschitz constant" in adopted.output
    again = ["recertify", "--models", models, "--name", "theirs", "--version", "1"]
    assert CliRunner().invoke(main, again).exit_code == 0
    missing = CliRunner().invoke(main, ["adopt", "no.onnx", "--models", models, "--name", "x"])
    assert missing.exit_code == 1
    assert "no.onnx can't be read: No such file or directory" in missing.output
