"""A whole comparison over real services: complete, counted, and certified as promised."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from reaas import Client, Usage
from reaas.compare import (
    Meters,
    Report,
    Row,
    client_ids,
    render,
    run,
    write_plots,
)
from reaas.compare._bench import client_name
from reaas.datasets import Dataset
from rich.console import Console

from evaluation.services import Services
from tests.compare.tiny import CONFIG

ROW_KEYS = {
    "scheme", "certification", "method", "applicable", "target", "accuracy", "acr",
    "queries_per_training_input", "queries_per_testing_input", "bytes_per_training_input",
    "bytes_per_testing_input", "seconds", "smoothing",
}  # fmt: skip
OURS = ["reaas/BC/CROWN", "reaas/BC/IBP", "reaas/BC/CROWN/margin", "reaas/SC"]
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass
class Run:
    """A finished comparison and the clients that made it."""

    report: Report
    meters: Meters
    clients: dict[str, Client] = field(default_factory=dict)


@pytest.fixture(scope="module")
def finished(services: Services, digits: Dataset) -> Run:
    meters = Meters(services.metrics_urls)
    clients: dict[str, Client] = {}

    def connect(client_id: str) -> Client:
        clients[client_id] = Client(
            services.encoder.address, services.f2i.address, api_key=services.keys[client_id]
        )
        return clients[client_id]

    return Run(run(CONFIG, digits, connect, meters=meters), meters, clients)


def names(rows: object) -> list[str]:
    assert isinstance(rows, list)
    return [row.name for row in rows]


def test_every_way_to_certify_has_its_row(finished: Run) -> None:
    report = finished.report
    assert names(report.rows)[:4] == OURS
    assert sorted(names(report.rows)[4:6]) == ["seaas/SC/0.1", "seaas/SC/0.3"]
    assert names(report.rows)[6] == "seaas/BC"
    assert report.twin is not None
    assert names(report.twin.rows) == OURS
    assert report.twin.encoder.digest != report.encoder.digest
    assert len(report.curve) == len(CONFIG.sigmas) * len(CONFIG.budgets)
    assert [item.row for item in report.break_even] == OURS


def test_queries_are_those_of_the_talk(finished: Run) -> None:
    for row in applicable(finished.report):
        training, testing = (1, 2) if row.scheme == "reaas" else (25, 5 + 50)
        assert row.queries_per_training_input == training
        assert row.queries_per_testing_input == testing


def test_report_meters_and_ledgers_are_equal(finished: Run, digits: Dataset) -> None:
    for row in applicable(finished.report):
        client = client_name(row.name)
        metered = finished.meters.read(client)
        assert metered == finished.clients[client].ledger.entries()
        assert {key.scheme for key in metered} == {row.scheme}
        for phase, inputs in (
            ("train", len(digits.train_labels)),
            ("test", len(digits.test_labels)),
        ):
            usage = sum((u for key, u in metered.items() if key.phase == phase), Usage())
            assert usage.queries == per(row, "queries", phase) * inputs
            assert usage.total_bytes == pytest.approx(per(row, "bytes", phase) * inputs)


def test_seaas_bc_is_not_applicable_for_a_reason(finished: Run) -> None:
    row = finished.report.row("seaas/BC")
    assert not row.applicable
    assert (row.acr, row.accuracy, row.queries_per_testing_input) == (None, None, None)
    assert "weights" in (row.reason or "")


def test_bc_certifies_something_and_never_more_than_it_gets_right(finished: Run) -> None:
    row = finished.report.row("reaas/BC/CROWN")
    assert row.acr is not None
    assert row.acr > 0.0
    curve = list(row.certified_accuracy or ())
    assert curve == sorted(curve, reverse=True)
    assert curve[0] == row.accuracy


def test_on_a_linear_head_crown_and_ibp_agree(finished: Run) -> None:
    crown, ibp = (finished.report.row(f"reaas/BC/{method}") for method in ("CROWN", "IBP"))
    assert crown.acr == ibp.acr


def test_margins_are_a_row_of_their_own_and_certify_more(finished: Run) -> None:
    assert finished.report.twin is not None
    for rows in (finished.report.rows, finished.report.twin.rows):
        ball, margins = (next(row for row in rows if row.name == OURS[i]) for i in (0, 2))
        assert (ball.method, ball.target) == ("CROWN", "ball")
        assert (margins.method, margins.target) == ("CROWN", "margin")
        assert margins.label == "REaaS BC margin"
        assert margins.accuracy == ball.accuracy
        assert (margins.acr or 0.0) > (ball.acr or 0.0)
        assert set(margins.f2i_methods or ()) <= {"lipschitz", "envelope", "crown"}


def test_every_row_has_a_client_of_its_own() -> None:
    deep = replace(CONFIG, hidden=(16,))
    for config in (CONFIG, deep):
        ids = client_ids(config)
        assert len(ids) == len(set(ids))
        assert {"reaas-bc-crown-margin", "twin-reaas-bc-crown-margin"} <= set(ids)


def test_the_best_noise_level_has_the_largest_acr(finished: Run) -> None:
    levels = [row for row in finished.report.rows if row.name.startswith("seaas/SC")]
    assert [row.best_sigma for row in levels] == [True, False]
    assert finished.report.best_seaas.acr == max(row.acr or 0.0 for row in levels)


def test_the_record_has_the_rows_on_the_same_inputs(finished: Run) -> None:
    record = finished.report.record
    assert record is not None
    assert record.queries_per_testing_input == 100 + CONFIG.record_votes
    assert set(record.acr_of_rows_on_same_inputs) >= {"reaas/BC/CROWN", "reaas/SC"}


def test_the_report_is_json_with_the_agreed_keys(finished: Run, tmp_path: Path) -> None:
    finished.report.write(tmp_path / "out" / "report.json")
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert data["encoder"].keys() == {"name", "version", "digest"}
    assert {"dataset", "test_inputs", "train_inputs", "seed", "rows", "twin"} <= data.keys()
    for row in (*data["rows"], *data["twin"]["rows"]):
        assert row.keys() >= ROW_KEYS
    smoothings = [row["smoothing"] for row in data["rows"] if row["smoothing"]]
    assert len(smoothings) == 3
    assert all(smoothing.keys() == {"n0", "n", "alpha", "sigma"} for smoothing in smoothings)


def test_pictures_and_table_are_made(finished: Run, tmp_path: Path) -> None:
    paths = write_plots(finished.report, tmp_path)
    assert {path.name for path in paths} == {
        "certified_accuracy.png",
        "acr_vs_queries.png",
        "cost.png",
    }
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    console = Console(width=200, file=io.StringIO())
    with console.capture() as capture:
        console.print(render(finished.report))
    text = capture.get()
    assert "REaaS BC margin" in text
    assert "Break-even budget of reaas/SC" in text
    assert "not applicable" in text


def test_the_endpoints_show_every_client(finished: Run) -> None:
    lines = "\n".join(finished.meters.lines("reaas_queries_total", client_ids(CONFIG)))
    assert all(f'client="{client}"' in lines for client in client_ids(CONFIG))


def applicable(report: Report) -> list[Row]:
    return [row for row in report.rows if row.applicable]


def per(row: Row, what: str, phase: str) -> float:
    value = getattr(row, f"{what}_per_{phase}ing_input")
    assert isinstance(value, int | float)
    return value
