"""Cells on disk and what a report makes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reaas import ModelRef
from reaas.compare import CurvePoint

from evaluation.pretraining.baseline import Baselines
from evaluation.pretraining.cell import Cell, Certified
from evaluation.pretraining.plot import write_plots
from evaluation.pretraining.report import Encoder, Report
from evaluation.pretraining.settings import Baseline, Settings
from evaluation.pretraining.store import CellStore
from evaluation.pretraining.table import markdown

REF = ModelRef("tiny", "1", "sha256:" + "0" * 64)
SETTINGS = Settings(4, 20, "lipschitz", "auto")
SEAAS = Baseline(100, 2, 20, (0.25, 0.5), (1, 2))
ENCODER = Encoder("tiny/1", REF.digest, 1.5, {"seconds": 90}, {"linear_probe_top1": 0.5})
TRUTH = [0, 1, 0, 1]


def cell(seed: int = 1, radius: float = 0.2, encoder: ModelRef = REF) -> Cell:
    """Four images: two right, one wrong, one abstention."""
    ball = Certified(
        "REaaS BC CROWN", seed, TRUTH, [0, 1, 1, -1], [radius, 0.4, 0.9, 0.0], [0.5, 0.5, 1.0, 0.0],
        2,
    )  # fmt: skip
    return Cell(encoder, "digits", seed, SETTINGS, 20, [ball])


def baselines() -> Baselines:
    """Of both seeds, on the first two images: one right, one wrong."""
    votes = [
        Certified("SEaaS SC", seed, TRUTH[:2], [0, 0], [0.1, 0.3], None, 110, sigma=0.25)
        for seed in SEAAS.seeds
    ]
    curve = [CurvePoint(0.25, 10, 100, 110, 11_000.0, 0.05, 0.5)]
    return Baselines(REF, "digits", SEAAS, votes, [curve, curve])


def report(*cells: Cell) -> Report:
    seeds = sorted({found.seed for found in cells})
    made = Report(SETTINGS, "local", SEAAS, seeds, [ENCODER])
    made.cells.extend(cells)
    made.baselines.append(baselines())
    return made


def test_what_is_stored_is_found_again(tmp_path: Path) -> None:
    store = CellStore(tmp_path / "cells")
    assert store.load(REF, "digits", 1, SETTINGS) is None
    assert store.load_baselines(REF, "digits", SEAAS) is None
    store.save(cell())
    store.save(baselines())
    assert store.load(REF, "digits", 1, SETTINGS) == cell()
    assert store.load_baselines(REF, "digits", SEAAS) == baselines()
    more = replace(SEAAS, seeds=(1, 2, 3))
    assert store.load_baselines(REF, "digits", more) is None


@pytest.mark.parametrize(
    ("encoder", "settings"),
    [
        (replace(REF, digest="sha256:" + "1" * 64), SETTINGS),
        (REF, replace(SETTINGS, train=30)),
        (REF, replace(SETTINGS, f2i_method="local")),
    ],
)
def test_a_cell_of_another_encoder_or_other_settings_is_measured_anew(
    tmp_path: Path, encoder: ModelRef, settings: Settings
) -> None:
    store = CellStore(tmp_path)
    store.save(cell())
    assert store.load(encoder, "digits", 1, settings) is None


def test_a_damaged_cell_is_measured_anew(tmp_path: Path) -> None:
    store = CellStore(tmp_path)
    store.save(cell())
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:50])
    assert store.load(REF, "digits", 1, SETTINGS) is None


def test_lines_have_mean_and_spread_over_the_seeds() -> None:
    ball, votes = report(cell(1, 0.2), cell(2, 0.4)).lines()
    assert (ball.way, ball.inputs, ball.seeds) == ("REaaS BC CROWN", 4, [1, 2])
    assert ball.accuracy.values == [0.5, 0.5]  # the wrong one and the abstention do not count
    assert ball.acr.mean == pytest.approx((0.6 / 4 + 0.8 / 4) / 2)
    assert ball.acr.spread == pytest.approx(0.05 / 2**0.5)
    assert ball.feature_acr is not None
    assert ball.feature_acr.mean == pytest.approx(0.25)
    assert ball.certified_accuracy["72/255"].values == [0.25, 0.5]
    assert ball.acr_on_seaas_inputs is not None
    assert ball.acr_on_seaas_inputs.values == pytest.approx([0.3, 0.4])
    assert (ball.break_even, ball.largest_budget) == ([None, None], 110)
    assert (votes.inputs, votes.feature_acr, votes.break_even) == (2, None, [])
    assert votes.acr.mean == pytest.approx(0.05)
    assert (ball.ratio, votes.ratio) == (None, None)


def test_encoders_are_compared_to_the_one_with_the_spectral_term() -> None:
    reference = replace(REF, name="moco-sn", digest="sha256:" + "2" * 64)
    made = report(cell(1, 0.6), cell(1, 0.2, reference))
    made.encoders = [ENCODER, replace(ENCODER, name="moco-sn/1", digest=reference.digest)]
    lines = {(line.encoder, line.way): line.ratio for line in made.lines()}
    assert lines["moco-sn/1", "REaaS BC CROWN"] == 1
    assert lines["tiny/1", "REaaS BC CROWN"] == pytest.approx(1.0 / 0.6)
    assert lines["tiny/1", "SEaaS SC"] is None


def test_one_seed_has_no_spread() -> None:
    assert next(report(cell()).lines()).acr.spread is None


def test_the_markdown_says_sizes_seeds_and_that_a_budget_was_not_reached() -> None:
    text = markdown(report(cell(1), cell(2)))
    assert "seeds 1, 2" in text
    assert "| tiny/1 | sha256:00000000 | 1.5 | 2 min | 50.0% |" in text
    assert "**digits**, 20 training images" in text
    row = next(line for line in text.splitlines() if "REaaS BC CROWN" in line)
    assert row.endswith("| > 110 |")
    assert "| 50.0 ± 0.0 |" in row


def test_json_and_pictures_are_written(tmp_path: Path) -> None:
    made = report(cell(1), cell(2))
    made.write(tmp_path / "report.json")
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["lines"][0]["acr"].keys() == {"mean", "spread", "values"}
    assert data["baseline"]["sigmas"] == [0.25, 0.5]
    assert data["machine"]["cores"] >= 1
    assert data["versions"]["reaas"]
    for path in write_plots(made, tmp_path):
        assert path.stat().st_size > 5_000
