"""`make bench-f2i` on a tiny encoder: real service, real attack, every method, readable results."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from reaas_bounds import MarginMethod, Method

from evaluation.bench_f2i.__main__ import main
from evaluation.bench_f2i.targets import FINE
from tests.support.models import conv_encoder, publish

NO_DATA = {"DATA": None, "REAAS_DATA": None}


@pytest.fixture(scope="module", autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """The command sets handlers for its whole process, which here is that of the tests."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a run on scikit-learn's digits, and its markdown under "markdown"."""
    root, out = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("bench")
    publish(root, conv_encoder())
    arguments = {"--models": root, "--images": 4, "--budget": 0.2, "--load": 0.1, "--out": out}
    words = [str(part) for pair in arguments.items() for part in pair]
    result = CliRunner().invoke(main, words, env=NO_DATA)
    assert result.exit_code == 0, result.output
    assert "no DATA=: digits, 8x8 and grey, instead of CIFAR-10" in result.output
    assert (out / "f2i.png").stat().st_size > 10_000
    report: dict[str, Any] = json.loads((out / "f2i.json").read_text())
    return report | {"markdown": (out / "f2i.md").read_text()}


def test_a_run_measures_every_method_on_every_target(found: dict[str, Any]) -> None:
    rows = found["rows"]
    asked = {(row["target"], row["method"]) for row in rows}
    balls = {f"ball p{p}" for p in (10, 50, 90)}
    of_balls = [*(method.value for method in Method), FINE]
    assert asked == {(ball, name) for ball in balls for name in of_balls} | {
        ("margins", method.value) for method in MarginMethod
    }
    for row in rows:
        assert 3 <= row["images"] <= 4
        assert 0 <= row["p10_share"] <= row["median_share"] <= 1
        assert row["alone_ms"] > 0
        assert all(c <= a for c, a in zip(row["radii"], row["attacked"], strict=True))
    fast = [row for row in rows if row["method"] == "lipschitz"]
    assert all(row["batched_ms"] > 0 and row["pairs_per_second"] > 10 for row in fast)
    assert all(row["ratio_to_paper"] == 1 for row in rows if row["method"] == "crown")


def test_the_report_says_where_and_with_what_it_was_made(found: dict[str, Any]) -> None:
    assert (found["dataset"], found["images"], found["seed"]) == ("digits", 4, 1)
    assert {"architecture", "cores", "torch_threads", "python"} <= set(found["machine"])
    assert {"torch", "onnxruntime"} <= set(found["versions"])
    (subject,) = found["subjects"]
    assert subject["name"] == "tiny/1"
    assert list(subject["feature_radii"]) == ["p10", "p50", "p90"]
    text = found["markdown"]
    assert f"{found['date'][:10]}, " in text
    assert text.count("| lipschitz |") == 4
    (verdict,) = re.findall(r"^AUTO below a single method: .*", text, re.MULTILINE)
    assert "ball" not in verdict  # AUTO for margins leaves CROWN out


def test_an_unknown_model_and_a_missing_data_set_are_named(
    models_dir: Path, tmp_path: Path
) -> None:
    start = ["--models", str(models_dir), "--load", "0", "--out", str(tmp_path / "out")]
    unknown = CliRunner().invoke(main, [*start, "--model", "other"], env=NO_DATA)
    assert unknown.exit_code == 1
    assert "has no model 'other'; there are: tiny" in unknown.output
    empty = CliRunner().invoke(main, [*start, "--data", str(tmp_path)])
    assert empty.exit_code == 1
    assert "cifar10" in empty.output
