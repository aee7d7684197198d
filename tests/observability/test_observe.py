"""`make observe`: its parts, and a small run of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from reaas import Ledger, LedgerKey, Usage
from rich.console import Console

from evaluation.observe.bill import BillError, reconcile, totals
from evaluation.observe.checks import Findings
from evaluation.observe.monitoring import Prometheus, Series, derived_config
from evaluation.observe.page import value_text
from evaluation.observe.panels import dashboards
from evaluation.observe.replay import CAMERA, GUEST, PHONE, SCANNER, Scale
from evaluation.observe.run import observe

TARGET = {"job": "reaas-encoder", "instance": "a"}
KEY = LedgerKey("feature", "reaas", "test", "tiny")


@dataclass(frozen=True)
class Recorded(Prometheus):
    """A Prometheus that has these raw samples."""

    samples: Mapping[str, list[Series]]

    def instant(self, expr: str, at: float | None = None) -> list[Series]:
        return self.samples.get(expr.partition("[")[0], [])


def recorded(*counts: float, starts: list[float]) -> Recorded:
    labels = {**TARGET, "client": "phone", **vars(KEY)}
    points = [(float(at), count) for at, count in enumerate(counts)]
    births = [(float(at), start) for at, start in enumerate(starts)]
    samples = {"process_start_time_seconds": [Series(TARGET, births)]}
    for name in ("queries", "request_bytes", "response_bytes"):
        samples[f"reaas_{name}_total"] = [Series(labels, points)]
    return Recorded("http://recorded", samples)


def test_counts_of_a_restarted_process_are_added() -> None:
    prometheus = recorded(5, 7, 0, 3, starts=[1, 1, 2, 2])
    assert totals(prometheus, "reaas_queries_total", ("client",), 60) == {("phone",): 10}


def test_a_restart_is_seen_though_the_counter_has_grown_beyond() -> None:
    prometheus = recorded(5, 7, 9, starts=[1, 1, 2])
    assert totals(prometheus, "reaas_queries_total", ("client",), 60) == {("phone",): 16}


def test_a_byte_that_is_missing_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluation.observe.bill._PATIENCE_S", 0.0)
    ledger = Ledger()
    ledger.add(KEY, Usage(7, 7, 7))
    reconcile(recorded(7, starts=[1]), {"phone": ledger}, 60)
    ledger.add(KEY, Usage(0, 1, 0))
    with pytest.raises(BillError, match=r"request_bytes=8.*request_bytes=7"):
        reconcile(recorded(7, starts=[1]), {"phone": ledger}, 60)


@pytest.mark.parametrize("points", [[], [(0.0, math.nan)]])
def test_queries_without_a_number_are_problems(points: list[tuple[float, float]]) -> None:
    findings = Findings()
    findings.check("full", [Series({}, [(0.0, 0.0)])])
    findings.check("empty", [Series({}, points)] if points else [])
    assert findings.passed == 1
    assert findings.problems == ["empty is empty"]


def test_the_configuration_of_a_run_is_the_deployed_one_with_other_targets() -> None:
    config = derived_config({"reaas-f2i": ["127.0.0.1:1"]})
    [job] = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:1"], "labels": {"namespace": "local"}}]
    assert yaml.safe_dump(config)


def test_every_panel_says_what_it_shows_and_in_what_unit() -> None:
    boards = dashboards(range_s=60, rate_s=15)
    assert [board.name for board in boards] == ["certification", "cost", "health"]
    for panel in (panel for board in boards for panel in board.panels):
        assert panel.description.endswith((".", "likewise."))
        assert value_text(1.0, panel.unit)
        assert all("$" not in target.expr for target in panel.targets)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_small_run_bills_to_the_byte_and_answers_every_query(
    prometheus_programs: None, models_dir: Path, tmp_path: Path
) -> None:
    scale = Scale(train=20, reaas_test=6, seaas_test=2, draws=50)
    outcome = observe(models_dir, "tiny", scale, tmp_path, Console(quiet=True))
    assert outcome.problems == []
    bills = {line.client: line for line in outcome.bills}
    assert set(bills) == {CAMERA, PHONE, SCANNER, GUEST}
    # 1 query a training input, 2 a testing input; 5 copies and 55 draws for SEaaS.
    assert bills[CAMERA].usage.queries == bills[PHONE].usage.queries == 20 + 2 * 12
    assert bills[SCANNER].usage.queries == 5 * 20 + 4 * 55
    assert bills[SCANNER].certificates == pytest.approx(4)
    assert (bills[PHONE].as_seaas or 0.0) > bills[PHONE].certifying
    for name in ("index.html", "cost.png", "health.png", "certification.png"):
        assert (tmp_path / name).stat().st_size > 1000
