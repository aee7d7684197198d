"""The command `reaas` against a live fake server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reaas
from click.testing import CliRunner, Result
from PIL import Image
from reaas.certify import DownstreamClassifier
from reaas.cli._app import app
from reaas.cli._context import rounded
from reaas.testing import FakeModel, FakeServer

from tests.sdk.samples import make_images

Run = Callable[..., Result]


@pytest.fixture
def run(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the fake server."""
    for name in ("REAAS_API_KEY", "REAAS_ENCODER", "REAAS_F2I"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: object, **options: Any) -> Result:
        where = ["--encoder", server.address, "--f2i", server.address]
        return CliRunner().invoke(app, [*where, *map(str, arguments)], **options)

    return invoke


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three images: a PNG, and a .npy of two."""
    png, stack = tmp_path / "one.png", tmp_path / "two.npy"
    pixels = make_images(3)
    Image.fromarray(pixels[0]).save(png)
    np.save(stack, pixels[1:])
    return [png, stack]


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A linear classifier of three classes on the fake model's features."""
    rng = np.random.default_rng(3)
    path = tmp_path / "head.npz"
    DownstreamClassifier((rng.normal(size=(3, 8)),), (rng.normal(size=3),)).save(path)
    return path


def test_models_lists_the_encoders(run: Run, server: FakeServer) -> None:
    result = run("models")
    assert result.exit_code == 0
    assert "fake@1" in result.stdout
    assert server.model.ref.digest[:19] in result.stdout
    (model,) = json.loads(run("--json", "models").stdout)["results"]
    assert model["ref"] == {"name": "fake", "version": "1", "digest": server.model.ref.digest}
    assert model["constants"]["lipschitz"] == pytest.approx(2.0)


def test_encode_writes_features_in_the_order_of_the_images(
    run: Run, server: FakeServer, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "features.npz"
    result = run("encode", *pictures, "--model", "fake", "--out", out, "--phase", "train")
    assert result.exit_code == 0, result.output
    with np.load(out) as saved:
        np.testing.assert_array_equal(
            saved["features"], server.model.encode(make_images(3) / 255.0)
        )
        assert saved["names"].tolist() == ["one.png", "two.npy[0]", "two.npy[1]"]
        assert reaas.ModelRef.parse(str(saved["model"])) == server.model.ref
    assert server.meter.totals(phase="train").queries == 3


def test_radius_tells_the_image_space_radius(run: Run, pictures: list[Path]) -> None:
    arguments = ("radius", *pictures, "--model", "fake@1", "--feature-radius", 0.5)
    found = json.loads(run("--json", *arguments, "--method", "ibp").stdout)
    assert [row["image"] for row in found["results"]] == ["one.png", "two.npy[0]", "two.npy[1]"]
    assert found["results"][0]["method"] == "ibp"
    assert found["results"][0]["radius"] == pytest.approx(0.25 / np.sqrt(8), rel=1e-4)
    assert found["model"]["name"] == "fake"
    table = run(*arguments)
    assert table.exit_code == 0
    assert "0.249999" in table.stdout


@pytest.mark.parametrize("method", ["crown", "ibp", "smoothing"])
def test_certify_gives_label_and_radii(
    run: Run, server: FakeServer, pictures: list[Path], head: Path, method: str
) -> None:
    extra = ("--sigma", 0.1, "--samples", 200) if method == "smoothing" else ()
    arguments = ("certify", *pictures, "--model", "fake", "--classifier", head)
    result = run("--json", *arguments, "--method", method, *extra)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["results"]
    labels = DownstreamClassifier.load(head).predict(server.model.encode(make_images(3) / 255.0))
    for row, label in zip(rows, labels, strict=True):
        if row["radius"]:
            assert row["label"] == label
            assert row["radius"] == pytest.approx(
                row["feature_radius"] / server.model.lipschitz, rel=1e-4
            )
            assert row["bound"] == "lipschitz"
    assert any(row["radius"] for row in rows)
    assert {key.api: usage.queries for key, usage in server.meter.entries().items()} == {
        "feature": 3,
        "f2iperturb": 3,
    }


def test_margins_reach_as_far_as_the_ball_and_cost_the_same(
    run: Run, server: FakeServer, pictures: list[Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(1)
    layers = (random.normal(size=(12, 8)), random.normal(size=(3, 12)))
    deep = DownstreamClassifier(layers, (np.zeros(12), np.zeros(3)))
    deep.save(tmp_path / "deep.npz")
    radii = {}
    for target in ("ball", "margin"):
        arguments = ("certify", *pictures, "--model", "fake", "--classifier", tmp_path / "deep.npz")
        result = run("--json", *arguments, "--target", target)
        assert result.exit_code == 0, result.output
        rows = json.loads(result.stdout)["results"]
        radii[target] = np.array([row["radius"] for row in rows])
    assert (radii["margin"] >= radii["ball"] * (1 - 1e-3)).all()
    assert radii["margin"].max() > 0
    assert server.meter.totals(api="f2iperturb").queries == 6


@pytest.mark.parametrize("method", ["ibp", "smoothing"])
def test_margins_are_for_crown(run: Run, pictures: list[Path], head: Path, method: str) -> None:
    arguments = ("certify", *pictures, "--model", "fake", "--classifier", head)
    result = run(*arguments, "--method", method, "--sigma", 0.1, "--target", "margin")
    assert result.exit_code == 2
    assert f"--target margin needs --method crown, got {method}" in result.stderr


def test_certify_takes_images_of_several_sizes(run: Run, head: Path, tmp_path: Path) -> None:
    """The fake takes one size only: the other is refused by name, and the first one goes on."""
    paths = [tmp_path / "right.png", tmp_path / "wrong.png"]
    Image.fromarray(make_images(1)[0]).save(paths[0])
    Image.fromarray(np.zeros((5, 4, 3), np.uint8)).save(paths[1])
    result = run("certify", *paths, "--model", "fake", "--classifier", head)
    assert result.exit_code == 2
    assert f"skipped: {paths[1]} is 5 x 4 pixels" in result.stderr
    assert "fake takes 4 x 4: --resize" in result.stderr
    assert "right.png" in result.stdout


def test_grey_images_have_one_channel(run: Run, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "grey.png")
    result = run("radius", tmp_path / "grey.png", "--model", "fake", "--feature-radius", 1)
    assert "[1, 4, 4, 1]" in result.stderr


def test_train_head_trains_what_certify_takes(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    images, out = make_images(60), tmp_path / "head.npz"
    labels = (images.reshape(60, -1).mean(axis=1) > 127.5).astype(np.uint8)
    np.savez(tmp_path / "train.npz", images=images, labels=labels)
    arguments = ("train-head", tmp_path / "train.npz", "--model", "fake", "--out", out)
    result = run("--json", *arguments)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["results"]
    assert (row["images"], row["classes"]) == (60, 2)
    assert DownstreamClassifier.load(out).feature_dim == 8


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": make_images(3)}, "labels is none"),
        ({"images": make_images(3), "labels": np.zeros(2, int)}, "labels is int64 (2,)"),
        ({"images": make_images(3), "labels": np.zeros(3)}, "labels is 1 class"),
        ({"images": make_images(3), "labels": np.array([0, 0.5, 1])}, "fractions"),
        ({"x": make_images(3), "y": np.zeros(3)}, "must be named `images`"),
        ({"images": np.full((3, 4, 4, 3), 2.0)}, "has values from 2 to 2, not in [0,1]"),
        ({"images": np.zeros((3, 4), np.uint8)}, "has shape (3, 4)"),
    ],
)
def test_array_files_that_cannot_be_used_are_named(
    run: Run, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    result = run("train-head", path, "--model", "fake", "--out", tmp_path / "head.npz")
    assert result.exit_code == 2
    assert message in result.stderr
    assert str(path) in result.stderr


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("INVALID_VALUE", 2),
        ("UNAUTHENTICATED", 3),
        ("MODEL_BROKEN", 4),
        ("DIGEST_MISMATCH", 4),
        ("QUEUE_FULL", 5),
        ("DEADLINE_TOO_SHORT", 5),
        ("INTERNAL", 6),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    run: Run, server: FakeServer, pictures: list[Path], reason: str, code: int
) -> None:
    server.fail_next(reason)
    result = run("radius", *pictures, "--model", "fake", "--feature-radius", 1)
    assert result.exit_code == code
    where = f"{server.address}: " if code in (3, 5, 6) and "DEADLINE" not in reason else ""
    assert result.stderr == f"reaas: {where}{reason} by request of the test\n"
    assert result.stdout == ""


def test_an_unknown_model_is_named(run: Run, pictures: list[Path]) -> None:
    result = run("radius", *pictures, "--model", "nope", "--feature-radius", 1)
    assert (result.exit_code, result.stderr) == (4, "reaas: the service has no model nope\n")


def test_files_that_are_no_images_are_named(run: Run, tmp_path: Path) -> None:
    for name in ("notes.txt", "notes.npy", "notes.npz"):
        (tmp_path / name).write_text("no image")
        result = run("radius", tmp_path / name, "--feature-radius", 1)
        assert result.exit_code == 2
        assert f"{name} is no readable" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_pickled_arrays_are_not_opened(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    result = run("radius", tmp_path / "evil.npy", "--feature-radius", 1)
    assert result.exit_code == 2
    assert "no readable array file" in result.stderr


def test_a_classifier_for_other_features_is_refused(
    run: Run, pictures: list[Path], tmp_path: Path
) -> None:
    DownstreamClassifier((np.ones((2, 5)),), (np.ones(2),)).save(tmp_path / "head.npz")
    arguments = ("certify", *pictures, "--model", "fake", "--classifier", tmp_path / "head.npz")
    result = run(*arguments)
    assert result.exit_code == 2
    assert "expected [n, 5]" in result.stderr


def test_smoothing_needs_a_sigma(run: Run, pictures: list[Path], head: Path) -> None:
    result = run("certify", *pictures, "--classifier", head, "--method", "smoothing")
    assert result.exit_code == 2
    assert "needs --sigma" in result.stderr


def test_nothing_listening_is_one_line(pictures: list[Path]) -> None:
    arguments = ["--encoder", "127.0.0.1:1", "--retry-for", "0", "models"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 5
    assert result.stderr.startswith("reaas: 127.0.0.1:1: ")
    assert len(result.stderr.splitlines()) == 1


def test_the_api_key_is_taken_from_the_environment_and_never_shown() -> None:
    with FakeServer(api_keys={"sesame-4711": "me"}) as server:
        arguments = ["--encoder", server.address, "models"]
        known = CliRunner().invoke(app, arguments, env={"REAAS_API_KEY": "sesame-4711"})
        assert known.exit_code == 0
        unknown = CliRunner().invoke(app, arguments, env={"REAAS_API_KEY": "wrong-0815"})
        assert unknown.exit_code == 3
        listing = CliRunner().invoke(app, ["--help"], env={"REAAS_API_KEY": "sesame-4711"})
        for result in (known, unknown, listing):
            assert "sesame-4711" not in result.output
            assert "wrong-0815" not in result.output


def test_the_program_runs_as_a_module_and_says_what_is_missing() -> None:
    version = subprocess.run(
        [sys.executable, "-m", "reaas", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("reaas, version")
    without_click = "import sys; sys.modules['click'] = None; from reaas.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", without_click], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "reaas: click is not installed; run: pip install 'reaas[cli]'\n"


def test_the_newest_version_is_used_unless_one_is_named(
    server: FakeServer, run: Run, pictures: list[Path]
) -> None:
    server.models.append(FakeModel(version="2", seed=1))
    for model, version in (("fake", "2"), ("fake@1", "1")):
        result = run("--json", "radius", *pictures, "--model", model, "--feature-radius", 1)
        assert json.loads(result.stdout)["model"]["version"] == version


@pytest.mark.parametrize("value", [0.1234567, 1.9999999, 12345678.9, 1e-9 / 3, 0.0, 5.0])
def test_a_radius_is_never_shown_larger_than_it_is(value: float) -> None:
    assert value * (1 - 1e-5) <= float(rounded(value)) <= value
    assert value <= float(rounded(value, up=True)) <= value * (1 + 1e-5)


def test_compare_writes_report_and_pictures(tmp_path: Path) -> None:
    for needed in ("torch", "sklearn", "matplotlib", "prometheus_client"):
        pytest.importorskip(needed)
    arguments = ["compare", "--train", 60, "--test", 5, "--samples", 20, "--sigma", 0.25]
    with FakeServer([FakeModel(shape=(8, 8, 1))]) as server:
        where = ["--encoder", server.address, "--f2i", server.address]
        rest = ["--model", "fake", "--out", tmp_path]
        result = CliRunner().invoke(app, [*where, *map(str, [*arguments, *rest])])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["encoder"]["name"] == "fake"
    assert {row["scheme"] for row in report["rows"]} == {"reaas", "seaas"}
    for name in ("certified_accuracy.png", "acr_vs_queries.png", "cost.png"):
        assert (tmp_path / name).stat().st_size > 1000
        assert f"wrote {tmp_path / name}" in result.stdout
