"""The comparison as a table for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reaas.compare._break_even import BreakEven
from reaas.compare._report import Record, Report, Row, Twin

_UNITS = ("B", "kB", "MB", "GB", "TB")


def render(report: Report) -> RenderableType:
    """Table of all rows, with the break-even budgets, the twin and the record below it."""
    parts: list[RenderableType] = [_rows_table(_title(report), report.rows)]
    if report.twin:
        parts.append(_rows_table(_twin_title(report.twin), report.twin.rows))
    parts.append(Text("\n".join(_break_even_line(item) for item in report.break_even)))
    if report.record:
        parts.append(Text(_record_line(report.record)))
    return Group(*parts)


def format_bytes(count: float) -> str:
    """For example `12.3 kB`; decimal units."""
    power = min(int(math.log10(count) // 3), len(_UNITS) - 1) if count >= 1.0 else 0
    value = count / 1000**power
    return f"{value:.{1 if power and value < 99.95 else 0}f} {_UNITS[power]}"


def _title(report: Report) -> str:
    return (
        f"{report.dataset}: {report.test_inputs:,} testing and {report.train_inputs:,} training "
        f"inputs, encoder {report.encoder.name} version {report.encoder.version}"
    )


def _twin_title(twin: Twin) -> str:
    return f"the same with encoder {twin.encoder.name} version {twin.encoder.version}"


def plain_table(title: str) -> Table:
    """A table without columns yet, as every report of a comparison looks: narrow, no frame."""
    return Table(
        title=title,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _rows_table(title: str, rows: Sequence[Row]) -> Table:
    """Fits 80 columns; queries and bytes are those of a training and of a testing input."""
    table = plain_table(title)
    table.add_column("", no_wrap=True)
    for heading in ("noise sigma", "accuracy", "ACR", "queries", "bytes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row), style="bold" if row.best_sigma else None)
    notes = [f"{row.label}: not applicable, {row.reason}" for row in rows if not row.applicable]
    table.caption = "\n".join(["queries and bytes: per training input / per testing input", *notes])
    return table


def _cells(row: Row) -> list[str]:
    if not row.applicable:
        return [row.label, *["n/a"] * 5]
    training, testing = row.bytes_per_training_input or 0.0, row.bytes_per_testing_input or 0.0
    return [
        row.label,
        _sigma(row),
        f"{row.accuracy or 0.0:.1%}",
        f"{row.acr or 0.0:.4f}",
        f"{row.queries_per_training_input or 0:,g} / {row.queries_per_testing_input or 0:,g}",
        f"{format_bytes(training)} / {format_bytes(testing)}",
    ]


def _sigma(row: Row) -> str:
    """Noise level and where it is added."""
    if row.smoothing is None:
        return "-"
    space = "feature" if row.scheme == "reaas" else "image"
    return f"{row.smoothing.sigma:.2g} {space}"


def _break_even_line(item: BreakEven) -> str:
    if item.queries_per_testing_input is None:
        budget = f"beyond {item.largest_budget:,}"
    else:
        budget = f"about {item.queries_per_testing_input:,.0f}"
    return f"Break-even budget of {item.row} (ACR {item.acr:.4f}): {budget} SEaaS queries"


def _record_line(record: Record) -> str:
    same = ", ".join(f"{name} {acr:.4f}" for name, acr in record.acr_of_rows_on_same_inputs.items())
    return (
        f"For the record, SEaaS with n = {record.n:,} (sigma {record.sigma:g}) on "
        f"{record.test_inputs} testing inputs: ACR {record.acr:.4f} at "
        f"{record.queries_per_testing_input:,g} queries and "
        f"{format_bytes(record.bytes_per_testing_input)} each; on the same inputs: {same}"
    )
