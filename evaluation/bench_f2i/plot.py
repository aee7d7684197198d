"""Certified against attacked radius: a point an image, a colour a method, a panel a target."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # files only, no display

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.bench_f2i.report import Report, Row

# Colours that people with any colour vision can tell apart (Okabe and Ito).
_COLOURS = {
    "lipschitz": "#0072B2",
    "local": "#009E73",
    "envelope": "#009E73",
    "crown": "#D55E00",
    "crown_joint": "#E69F00",
    "ibp": "#999999",
    "auto": "#000000",
}
_PANEL = 3.4  # inches


def write_plot(report: Report, path: Path) -> None:
    """One row of panels an encoder, one column a target."""
    targets = list(dict.fromkeys(row.target for row in report.rows))
    size = (_PANEL * len(targets), _PANEL * len(report.subjects) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(report.subjects), len(targets), squeeze=False)
    for line, subject in enumerate(report.subjects):
        for column, target in enumerate(targets):
            shown = [r for r in report.rows if (r.encoder, r.target) == (subject.name, target)]
            _panel(grid[line, column], f"{subject.name}: {target}", shown)
    entries = {
        label: handle
        for axes in grid.flat
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=len(entries)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, title: str, rows: list[Row]) -> None:
    for row in rows:
        # AUTO is one of the others on every image: a ring around that point.
        auto = row.method == "auto"
        axes.scatter(
            row.attacked,
            row.radii,
            s=26 if auto else 9,
            label=row.method,
            edgecolors=_COLOURS.get(row.method, "#CC79A7"),
            facecolors="none" if auto else _COLOURS.get(row.method, "#CC79A7"),
            linewidths=0.6,
        )
    largest = max((radius for row in rows for radius in row.attacked), default=1.0)
    axes.plot([0, largest], [0, largest], color="black", linewidth=0.8)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("attacked radius (no sound one is larger)", fontsize=8)
    axes.set_ylabel("certified radius", fontsize=8)
    axes.tick_params(labelsize=7)
