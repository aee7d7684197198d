"""The comparison as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reaas.compare._break_even import envelope
from reaas.compare._report import Report, Row, Twin
from reaas.compare._table import format_bytes

# Okabe and Ito's colours, told apart by all common kinds of colour blindness; beside the colour,
# markers and dashes differ, for print in grey.
_REAAS_STYLES = {
    "reaas/BC/CROWN": ("#0072B2", "o", "-"),
    "reaas/BC/IBP": ("#56B4E9", "s", "--"),
    "reaas/BC/CROWN/margin": ("#CC79A7", "P", "-."),
    "reaas/SC": ("#009E73", "^", "-"),
}
# CROWN and IBP agree on a linear head: the larger marker stays visible behind the smaller one.
_MARKER_SIZES = {
    "reaas/BC/CROWN": 11,
    "reaas/BC/IBP": 6,
    "reaas/BC/CROWN/margin": 9,
    "reaas/SC": 8,
}
_SEAAS = "#D55E00"
_SEAAS_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def write_plots(report: Report, directory: Path) -> list[Path]:
    """Writes `certified_accuracy.png`, `acr_vs_queries.png` and `cost.png`; returns the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Callable[[Report], Figure]] = {
        "certified_accuracy.png": certified_accuracy_figure,
        "acr_vs_queries.png": acr_vs_queries_figure,
        "cost.png": cost_figure,
    }
    paths = []
    with style.context("reaas.compare.figures"):
        for name, draw in pictures.items():
            paths.append(directory / name)
            draw(report).savefig(paths[-1], dpi=150)
    return paths


def certified_accuracy_figure(report: Report) -> Figure:
    """Share of inputs that are right and certified, against the radius."""
    figure, axes = _figure()
    for row in (row for row in report.rows if row.scheme == "reaas"):
        color, _, dashes = _REAAS_STYLES[row.name]
        axes.plot(*_curve(report, row), color=color, ls=dashes, lw=1.8, label=_label(row))
    for row, pattern in _seaas_rows(report):
        width = 2.2 if row.best_sigma else 1.2
        axes.plot(*_curve(report, row), color=_SEAAS, ls=pattern, lw=width, label=_label(row))
    axes.set(
        title=f"Certified accuracy, {_subject(report)}",
        xlabel="image-space certified radius (L2, pixels in [0, 1])",
        ylabel="right and certified (share of testing inputs)",
        xlim=(0.0, max(report.radii)),
    )
    axes.set_ylim(bottom=0.0)
    _legend(axes)
    return figure


def acr_vs_queries_figure(report: Report) -> Figure:
    """ACR against queries per testing input: SEaaS as a curve, REaaS as points."""
    figure, axes = _figure()
    _draw_seaas_curves(axes, report)
    for row in (row for row in report.rows if row.scheme == "reaas"):
        _draw_reaas_point(axes, report, row)
    if report.twin:
        _draw_twin(axes, report.twin)
    if report.record:
        axes.plot(
            report.record.queries_per_testing_input,
            report.record.acr,
            color=_SEAAS,
            marker="*",
            mfc="white",
            ms=11,
            ls="none",
            label=f"SEaaS SC, n = {report.record.n:,},\n{report.record.test_inputs} inputs only",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(
        title=f"What a query buys, {_subject(report)}",
        xlabel="queries per testing input (log scale)",
        ylabel="ACR (L2, pixels in [0, 1])",
    )
    axes.set_xlim(left=1.0)
    axes.set_ylim(bottom=0.0)
    _legend(axes)
    return figure


def cost_figure(report: Report) -> Figure:
    """Queries and bytes per testing input, as bars; SEaaS also at the ACR that REaaS has."""
    bars = _cost_bars(report)
    figure = Figure(figsize=(9.0, 1.4 + 0.5 * len(bars)), layout="constrained")
    for axes, what, values, write in zip(
        figure.subplots(1, 2, sharey=True),
        ("queries", "bytes"),
        ([bar.queries for bar in bars], [bar.traffic for bar in bars]),
        ("{:,.0f}".format, format_bytes),
        strict=True,
    ):
        drawn = axes.barh(
            [bar.label for bar in bars], values, color=[bar.color for bar in bars], height=0.6
        )
        axes.bar_label(drawn, labels=[write(value) for value in values], padding=4)
        axes.set_xscale("log")
        axes.set_xlim(left=1.0, right=max(values) ** 1.3)
        axes.xaxis.set_major_formatter(FuncFormatter(partial(_tick, write)))
        axes.set_xlabel(f"{what} per testing input (log scale)")
        axes.grid(visible=False, axis="y")
    axes.invert_yaxis()
    figure.suptitle(f"What a certificate costs, {_subject(report)}", x=0.01, ha="left", size=11)
    return figure


@dataclass(frozen=True)
class _CostBar:
    label: str
    color: str
    queries: float
    traffic: float


def _cost_bars(report: Report) -> list[_CostBar]:
    """The REaaS rows, SEaaS at the break-even budget of the best of them, SEaaS at its largest."""
    rows = [row for row in report.rows if row.scheme == "reaas"] + [report.best_seaas]
    bars = [
        _CostBar(
            _label(row),
            _SEAAS if row.scheme == "seaas" else _REAAS_STYLES[row.name][0],
            row.queries_per_testing_input or 0.0,
            row.bytes_per_testing_input or 0.0,
        )
        for row in rows
    ]
    even = max(report.break_even, key=lambda item: item.acr).queries_per_testing_input
    if even is not None:
        traffic = even * bars[-1].traffic / bars[-1].queries
        bars.insert(-1, _CostBar("SEaaS SC, at the best REaaS ACR", _SEAAS, even, traffic))
    return bars


def _tick(write: Callable[[float], str], value: float, _: int) -> str:
    return write(value).replace(".0 ", " ")


def _draw_seaas_curves(axes: Axes, report: Report) -> None:
    """A thin line for each noise level, a thick one for the best level at each budget."""
    dashes = {row.smoothing.sigma: style for row, style in _seaas_rows(report) if row.smoothing}
    points = sorted(report.curve, key=lambda point: (point.sigma, point.queries_per_testing_input))
    best = envelope(points)
    axes.plot(
        [report.hopeless_queries, best[0].queries_per_testing_input],
        [0.0, best[0].acr],
        color=_SEAAS,
        lw=1.1,
        ls=(0, (1, 2)),
    )
    axes.plot(
        [point.queries_per_testing_input for point in best],
        [point.acr for point in best],
        color=_SEAAS,
        marker="D",
        ms=5,
        lw=2.4,
        label="SEaaS SC, best sigma",
    )
    for sigma, group in groupby(points, key=lambda point: point.sigma):
        line = list(group)
        axes.plot(
            [point.queries_per_testing_input for point in line],
            [point.acr for point in line],
            color=_SEAAS,
            alpha=0.55,
            lw=1.1,
            ls=dashes[sigma],
            label=f"SEaaS SC, sigma {sigma:g}",
        )


def _draw_twin(axes: Axes, twin: Twin) -> None:
    """REaaS with the other encoder: the same markers, hollow."""
    for row in twin.rows:
        color, marker, _ = _REAAS_STYLES[row.name]
        axes.plot(
            row.queries_per_testing_input or 0.0,
            row.acr or 0.0,
            color=color,
            marker=marker,
            mfc="white",
            ms=_MARKER_SIZES[row.name],
            ls="none",
            label=f"{row.label}, encoder {twin.encoder.name}",
        )


def _draw_reaas_point(axes: Axes, report: Report, row: Row) -> None:
    """The point at its queries, and a line to the budget at which SEaaS has the same ACR."""
    color, marker, _ = _REAAS_STYLES[row.name]
    x, y = row.queries_per_testing_input or 0.0, row.acr or 0.0
    budget = next(b for b in report.break_even if b.row == row.name).queries_per_testing_input
    text = "not reached" if budget is None else f"break-even {budget:,.0f}"
    label = f"{_label(row)},\n{text}"
    axes.plot(x, y, color=color, marker=marker, ms=_MARKER_SIZES[row.name], ls="none", label=label)
    end = budget or max(point.queries_per_testing_input for point in report.curve)
    axes.plot([x, end], [y, y], color=color, lw=1.0, ls=(0, (2, 2)))
    if budget is not None:
        axes.plot([budget, budget], [0.0, y], color=color, lw=1.0, ls=(0, (2, 2)))
        axes.plot(budget, y, color=color, marker="x", ms=8, mew=2)


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def _curve(report: Report, row: Row) -> tuple[Sequence[float], Sequence[float]]:
    return report.radii, row.certified_accuracy or ()


def _seaas_rows(report: Report) -> Iterator[tuple[Row, str | tuple[int, tuple[int, ...]]]]:
    """Applicable SEaaS rows by noise level, each with its dashes."""
    rows = [row for row in report.rows if row.scheme == "seaas" and row.smoothing]
    rows.sort(key=lambda row: row.smoothing.sigma if row.smoothing else 0.0)
    for index, row in enumerate(rows):
        yield row, _SEAAS_DASHES[index % len(_SEAAS_DASHES)]


def _label(row: Row) -> str:
    if row.smoothing is None:
        return row.label
    if row.scheme == "reaas":
        return f"{row.label} (feature noise)"
    best = ", best" if row.best_sigma else ""
    return f"{row.label}, sigma {row.smoothing.sigma:g}, n = {row.smoothing.n:,}{best}"


def _subject(report: Report) -> str:
    return f"{report.dataset}, {report.test_inputs:,} testing inputs, encoder {report.encoder.name}"
