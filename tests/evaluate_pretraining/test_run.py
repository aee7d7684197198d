"""`make evaluate-pretraining` on a tiny encoder: real services, and nothing measured twice."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from evaluation.pretraining.__main__ import main
from tests.support.f2i import certified
from tests.support.models import conv_encoder, manifest, publish

SIZES = {
    "--datasets": "digits",
    "--test": 6,
    "--train": 60,
    "--seeds": 2,
    "--seaas-samples": 30,
    "--seaas-test": 2,
    "--sigma": 0.1,
    "--f2i-method": "lipschitz",
    "--loose-f2i-method": "lipschitz",
    "--margin-f2i-method": "lipschitz",
}


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """The command sets handlers for its whole process, which here is that of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one tiny encoder and an honest manifest."""
    root, onnx = tmp_path_factory.mktemp("models"), conv_encoder(scale=1.5)
    publish(root, onnx, manifest(onnx, certified=certified(onnx)))
    return root


def evaluate(models: Path, out: Path, **more: object) -> Result:
    options = SIZES | {"--models": models, "--out": out}
    options |= {f"--{name.replace('_', '-')}": value for name, value in more.items()}
    words = [str(part) for pair in options.items() for part in pair]
    return CliRunner().invoke(main, words, env={"DATA": None, "REAAS_DATA": None})


def test_a_run_measures_every_cell_once(models: Path, tmp_path: Path) -> None:
    first = evaluate(models, tmp_path)
    assert first.exit_code == 0, first.output
    assert "digits tiny seed 2: ACR" in first.output
    report = json.loads((tmp_path / "report.json").read_text())
    ways = ["REaaS BC CROWN", "REaaS BC margin", "REaaS SC", "SEaaS SC"]
    assert [line["way"] for line in report["lines"]] == ways
    for line, seeds, inputs, queries in zip(
        report["lines"], ([1, 2],) * 4, (6, 6, 6, 2), (2, 2, 2, 33), strict=True
    ):
        assert (line["seeds"], line["inputs"], line["queries"]) == (seeds, inputs, queries)
        shares = [
            line["accuracy"]["mean"],
            *(s["mean"] for s in line["certified_accuracy"].values()),
        ]
        assert shares == sorted(shares, reverse=True)
    ball, margin, smoothed, votes = report["lines"]
    assert ball["acr"]["mean"] > 0
    assert margin["acr"]["mean"] >= ball["acr"]["mean"]
    assert ball["feature_acr"]["mean"] > 0
    assert margin["feature_acr"] is None
    assert smoothed["feature_acr"] is not None
    assert len(ball["break_even"]) == 2
    assert votes["largest_budget"] is None
    assert {path.name for path in tmp_path.iterdir()} == {
        "cells", "report.json", "report.md", "acr.png", "certified_accuracy.png",
    }  # fmt: skip

    (tmp_path / "cells" / "tiny-1-digits-seed2.json").unlink()
    again = evaluate(models, tmp_path)
    assert again.exit_code == 0, again.output
    assert "seed 2: ACR" in again.output
    assert "seed 1: ACR" not in again.output
    assert "SEaaS" not in again.output.split("encoders")[0]
    assert json.loads((tmp_path / "report.json").read_text())["lines"] == report["lines"]


def test_a_model_that_is_not_there_is_named(models: Path, tmp_path: Path) -> None:
    result = evaluate(models, tmp_path, encoders="absent", seeds=1)
    assert result.exit_code == 1
    assert "the service has no model absent" in result.output


def test_missing_data_are_one_readable_line(models: Path, tmp_path: Path) -> None:
    result = evaluate(models, tmp_path, datasets="gtsrb")
    assert result.exit_code == 1
    assert "gtsrb: name the directory of its files" in result.output
