"""Pictures: ACR of every encoder as bars, certified accuracy as curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.pretraining.report import Line, Report

# Okabe and Ito's colours, told apart by all common kinds of colour blindness.
_COLOURS = ("#0072B2", "#CC79A7", "#009E73", "#D55E00", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_PANEL = 4.2  # inches
_RADII = np.linspace(0.0, 1.5, 151)


def write_plots(report: Report, directory: Path) -> list[Path]:
    """Writes `acr.png` and `certified_accuracy.png`; returns the paths."""
    pictures: dict[str, Callable[[Report], Figure]] = {
        "acr.png": acr_figure,
        "certified_accuracy.png": certified_accuracy_figure,
    }
    directory.mkdir(parents=True, exist_ok=True)
    with style.context("reaas.compare.figures"):
        for name, draw in pictures.items():
            draw(report).savefig(directory / name, dpi=130)
    return [directory / name for name in pictures]


def acr_figure(report: Report) -> Figure:
    """A panel a data set, a group of bars an encoder, a bar a way to certify."""
    lines = list(report.lines())
    datasets = list(dict.fromkeys(line.dataset for line in lines))
    figure = Figure(figsize=(_PANEL * len(datasets), _PANEL), layout="constrained")
    panels = figure.subplots(1, len(datasets), squeeze=False)[0]
    for axes, dataset in zip(panels, datasets, strict=True):
        _bars(axes, [line for line in lines if line.dataset == dataset])
        axes.set(title=dataset, ylabel="ACR (L2, pixels in [0, 1])")
    _legend(figure, panels[0])
    return figure


def _bars(axes: Axes, lines: list[Line]) -> None:
    encoders = list(dict.fromkeys(line.encoder for line in lines))
    ways = list(dict.fromkeys(line.way for line in lines))
    width = 0.8 / len(ways)
    for index, way in enumerate(ways):
        shown = [line for line in lines if line.way == way]
        few = f" ({shown[0].inputs} images)" if way.startswith("SEaaS") else ""
        axes.bar(
            [encoders.index(line.encoder) + (index + 0.5) * width - 0.4 for line in shown],
            [line.acr.mean for line in shown],
            width,
            yerr=[line.acr.spread or 0.0 for line in shown],
            color=_COLOURS[index],
            label=way + few,
        )
    axes.set_xticks(range(len(encoders)), encoders)


def certified_accuracy_figure(report: Report) -> Figure:
    """A row a data set, a column a way to certify, a curve an encoder: the mean over the seeds."""
    datasets = report.datasets
    ways = list(dict.fromkeys(line.way for line in report.lines()))
    size = (_PANEL * len(ways), 0.8 * _PANEL * len(datasets) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(datasets), len(ways), squeeze=False, sharex=True, sharey="row")
    for panels, dataset in zip(grid, datasets, strict=True):
        for axes, way in zip(panels, ways, strict=True):
            _curves(axes, report, dataset, way)
            axes.set_title(f"{dataset}: {way}")
        panels[0].set_ylabel("right and certified")
    for axes in grid[-1]:
        axes.set_xlabel("radius (L2, pixels in [0, 1])")
    _legend(figure, grid[0][0])
    return figure


def _curves(axes: Axes, report: Report, dataset: str, way: str) -> None:
    for index, encoder in enumerate(report.encoders):
        found = report.certified(dataset, encoder).get(way, [])
        if found:
            shares = [each.certified_accuracy(_RADII.tolist()) for each in found]
            colour, dashes = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
            axes.plot(_RADII, np.mean(shares, axis=0), color=colour, ls=dashes, label=encoder.name)
    axes.set_ylim(bottom=0.0)


def _legend(figure: Figure, axes: Axes) -> None:
    """One legend for all panels, which share their entries."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
