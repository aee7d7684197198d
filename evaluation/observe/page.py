"""The dashboards as pictures, and a page that shows them, for people without Grafana."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # No window, whatever the machine.
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from evaluation.observe.checks import Shown
from evaluation.observe.monitoring import Series
from evaluation.observe.panels import Dashboard

_WIDTH = 24
_INCHES = 16.0
_HEIGHT = {"stat": 1.2}
_OTHER_HEIGHT = 3.6
_MOST_NAMES = 8
_MOST_LETTERS = 16
_SCALED = {
    "decbytes": (1000.0, " B"),
    "bytes": (1024.0, " B"),
    "Bps": (1000.0, " B/s"),
    "short": (1000.0, ""),
    "none": (1000.0, ""),
    "reqps": (1000.0, " /s"),
    "ops": (1000.0, " /s"),
}
Named = list[tuple[str, Series]]


@dataclass(frozen=True)
class Picture:
    """One dashboard as it was drawn."""

    dashboard: Dashboard
    file: Path


def value_text(value: float, unit: str) -> str:
    """A value in Grafana's `unit`, for people."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit == "s":
        return f"{1000 * value:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    base, suffix = _SCALED[unit]
    for prefix in ("", "k", "M", "G"):
        if abs(value) < base or prefix == "G":
            break
        value /= base
    return f"{value:.4g}{prefix}{suffix}"


def draw(dashboard: Dashboard, shown: list[Shown], file: Path) -> Picture:
    """Writes one dashboard's panels as a PNG, laid out as in Grafana."""
    lines = _in_lines(shown)
    heights = [max(_HEIGHT.get(one.panel.kind, _OTHER_HEIGHT) for one in line) for line in lines]
    figure = plt.figure(figsize=(_INCHES, sum(heights) + 0.8), layout="constrained")
    figure.suptitle(dashboard.title, fontsize=15, fontweight="bold")
    for row, part in zip(lines, _subfigures(figure, heights), strict=True):
        widths = [one.panel.width for one in row]
        axes = part.subplots(1, len(row), width_ratios=widths, squeeze=False)[0]
        for one, axis in zip(row, axes, strict=True):
            axis.set_title(one.panel.title, fontsize=10, loc="left")
            drawn = _KINDS[one.panel.kind] if _named(one) else _nothing
            drawn(axis, one)
    figure.savefig(file, dpi=80)
    plt.close(figure)
    return Picture(dashboard, file)


def _subfigures(figure: Figure, heights: list[float]) -> list[Figure]:
    return list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])


def _in_lines(shown: list[Shown]) -> list[list[Shown]]:
    """Panels next to each other, as far as they fit."""
    lines: list[list[Shown]] = []
    room = 0
    for one in shown:
        if one.panel.width > room:
            lines.append([])
            room = _WIDTH
        lines[-1].append(one)
        room -= one.panel.width
    return lines


def _named(shown: Shown) -> Named:
    """The series that have a number, by their names."""
    return [
        (target.name_of(series.labels), series)
        for target, many in shown.series
        for series in many
        if any(math.isfinite(value) for _, value in series.points)
    ]


def _nothing(axis: Axes, _: Shown) -> None:
    axis.axis("off")
    axis.text(0.5, 0.5, "no data", ha="center", va="center", transform=axis.transAxes)


def _timeseries(axis: Axes, shown: Shown) -> None:
    named = _named(shown)
    start = min(series.points[0][0] for _, series in named)
    for name, series in named:
        times = [at - start for at, _ in series.points]
        axis.plot(times, [value for _, value in series.points], label=name, linewidth=1.3)
    _label(axis, shown.panel.unit)
    axis.set_xlabel("seconds", fontsize=8)
    axis.set_ylim(bottom=0)
    if len(named) > _MOST_NAMES:
        axis.legend(fontsize=6, ncols=2, loc="upper left")
    else:
        axis.legend(fontsize=7, loc="upper left")


def _stat(axis: Axes, shown: Shown) -> None:
    axis.axis("off")
    text = value_text(_named(shown)[0][1].last, shown.panel.unit)
    axis.text(0.5, 0.4, text, fontsize=22, ha="center", va="center", transform=axis.transAxes)


def _bargauge(axis: Axes, shown: Shown) -> None:
    named = sorted(_named(shown), key=lambda pair: pair[1].last)
    values = [series.last for _, series in named]
    drawn = axis.barh([name for name, _ in named], values)
    texts = [value_text(value, shown.panel.unit) for value in values]
    axis.bar_label(drawn, texts, fontsize=8, padding=3)
    axis.margins(x=0.15)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_visible(False)


def _table(axis: Axes, shown: Shown) -> None:
    axis.axis("off")
    columns: list[Mapping[tuple[str, ...], float]] = [
        {_values(series): series.last for series in many} for _, many in shown.series
    ]
    keys = sorted({key for column in columns for key in column})
    labels = [name for name in _named(shown)[0][1].labels if name != "__name__"]
    cells = [
        [*(part[:_MOST_LETTERS] for part in key)]
        + [value_text(column.get(key, math.nan), "short") for column in columns]
        for key in keys
    ]
    made = axis.table(
        cells,
        colLabels=[*labels, *shown.panel.columns],
        loc="upper left",
        cellLoc="left",
        colLoc="left",
        edges="horizontal",
    )
    made.auto_set_font_size(False)
    made.set_fontsize(8)


def _values(series: Series) -> tuple[str, ...]:
    return tuple(value for name, value in series.labels.items() if name != "__name__")


def _heatmap(axis: Axes, shown: Shown) -> None:
    """All of the time range in one histogram: how often each bucket was met."""
    ((_, many),) = shown.series
    cumulative = sorted(
        (float(series.labels["le"]), sum(v for _, v in series.points if math.isfinite(v)))
        for series in many
    )
    totals = [0.0, *(value for _, value in cumulative)]
    counts = [after - before for before, after in itertools.pairwise(totals)]
    axis.bar([f"≤{edge:g}" for edge, _ in cumulative], counts)
    axis.tick_params(axis="x", labelsize=7, rotation=60)
    axis.set_yticks([])


def _label(axis: Axes, unit: str) -> None:
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: value_text(value, unit)))
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)


_KINDS: Mapping[str, Callable[[Axes, Shown], None]] = {
    "timeseries": _timeseries,
    "stat": _stat,
    "bargauge": _bargauge,
    "table": _table,
    "heatmap": _heatmap,
}


def write_page(pictures: list[Picture], file: Path) -> None:
    """An HTML page with the pictures and what every panel says of itself."""
    parts = []
    for picture in pictures:
        shown = picture.dashboard
        about = "".join(
            f"<dt>{html.escape(panel.title)}</dt><dd>{html.escape(panel.description)}</dd>"
            for panel in shown.panels
        )
        parts.append(
            f"<h1>{html.escape(shown.title)}</h1><p>{html.escape(shown.description)}</p>"
            f'<img src="{picture.file.name}" alt="{html.escape(shown.title)}" width="100%">'
            f"<details><summary>What the panels mean</summary><dl>{about}</dl></details>"
        )
    file.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>REaaS dashboards</title>'
        f'<body style="font-family: sans-serif">{"".join(parts)}</body></html>\n',
        encoding="utf-8",
    )
