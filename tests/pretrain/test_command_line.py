"""The commands on small data in the layout of the real files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from reaas_pretrain import evaluate
from reaas_pretrain.__main__ import main
from reaas_pretrain.checkpoint import Checkpoint
from reaas_runtime.repository import read_entry

from tests.support.pictures import write_images

RECIPE = """
name = "small"
[encoder]
channels = [4, 4, 4]
feature_dim = 6
[contrast]
queue = 16
[spectral]
weight = 0.3
[schedule]
epochs = 2
batch = 8
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 train images in two mosaics, and a CIFAR-10 of 60."""
    directory = tmp_path_factory.mktemp("data")
    write_images(directory)
    return directory


@pytest.fixture(autouse=True)
def one_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quality is measured with one head instead of four."""
    monkeypatch.setattr(evaluate, "PROBE_NOISE", (0.0,))


def _invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def _recipe(directory: Path) -> Path:
    path = directory / "small.toml"
    path.write_text(RECIPE)
    return path


def test_train_resume_and_export(data: Path, tmp_path: Path) -> None:
    train = ("train", "--recipe", _recipe(tmp_path), "--data", data, "--out", tmp_path / "run")
    result = _invoke(*train)
    assert result.exit_code == 0, result.output
    assert "done: 2 epochs, 10 steps" in result.output.replace("\n", " ")
    assert "go on with --resume" in _invoke(*train).output
    assert _invoke(*train, "--resume").exit_code == 0
    result = _invoke(
        "export",
        "--run",
        tmp_path / "run",
        "--models",
        tmp_path / "models",
        "--data",
        data,
    )
    assert result.exit_code == 0, result.output
    manifest = json.loads((tmp_path / "models" / "small" / "1" / "manifest.json").read_text())
    assert manifest["training"]["epochs"] == 2


def test_supervised_on_a_folder_of_images(data: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(8):
            pixels = generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    path = tmp_path / "labels.toml"
    path.write_text(RECIPE.replace('name = "small"', 'name = "labels"\nobjective = "supervised"'))
    options = ("--recipe", path, "--data", data, "--out", tmp_path / "run", "--epochs", 1)
    result = _invoke("train", *options, "--source", tmp_path / "photos", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert Checkpoint.load(tmp_path / "run").data.endswith("photos train, 16 images at 32x32")


def test_own_images_need_no_other_data(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(20):
        pixels = np.random.default_rng(index).integers(0, 255, (33, 33, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    images = ("--data", tmp_path, "--source", tmp_path / "photos")
    run, models = tmp_path / "run", tmp_path / "models"
    result = _invoke("train", "--recipe", _recipe(tmp_path), *images, "--out", run, "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "accuracy is not measured" in result.output.replace("\n", " ")
    result = _invoke("export", "--run", run, "--models", models, *images)
    assert result.exit_code == 0, result.output
    assert read_entry(models / "small" / "1", "small", "1").manifest.quality == {}


def test_throughput_compares_the_loop_with_its_pass(data: Path, tmp_path: Path) -> None:
    recipe = _recipe(tmp_path)
    result = _invoke("throughput", "--recipe", recipe, "--data", data, "--steps", 5)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert re.search(r"small on \w+: [\d,]+ images/s, .* ratio \d", said)


def test_unknown_key_is_one_line(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text('name = "odd"\n[schedule]\nepochz = 3\n')
    result = _invoke("train", "--recipe", path, "--data", data, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "unknown key schedule.epochz" in result.output


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    result = _invoke(
        "train", "--recipe", _recipe(tmp_path), "--data", tmp_path, "--out", tmp_path / "run"
    )
    assert result.exit_code == 1
    assert "tiny_imagenet.npz" in result.output


def test_search_prints_a_row_a_change(data: Path, tmp_path: Path) -> None:
    changes = ("spectral.weight = 1.0", "contrast.temperature = 0.1; augmentation = {}")
    result = _search(tmp_path, data, *changes)
    assert result.exit_code == 0, result.output
    for change in changes:
        assert f"| {change} |" in result.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("contrast.heat = 0.1", "unknown key contrast.heat"),
        ("contrast.temperature 0.1", "not of the form section.key = value"),
        ("contrast.temperature = -1.0", "contrast.temperature"),
    ],
)
def test_a_change_that_makes_no_recipe_is_refused_before_any_run(
    data: Path, tmp_path: Path, change: str, said: str
) -> None:
    result = _search(tmp_path, data, "spectral.weight = 1.0", change)
    assert result.exit_code != 0
    assert said in result.output
    assert "reading images" not in result.output


def _search(directory: Path, data: Path, *changes: str) -> Result:
    wanted = [part for change in changes for part in ("--change", change)]
    recipe = _recipe(directory)
    return _invoke(
        "search", "--recipe", recipe, "--data", data, "--images", 16, "--epochs", 1, *wanted
    )
