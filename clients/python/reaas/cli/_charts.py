"""Two charts as SVG text: a histogram and a falling curve. No script, nothing to load."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 460, 220, 44, 36, 10
Float = NDArray[np.float64]


def histogram(values: Float, label: str, bins: int = 20) -> str:
    """How many of `values` [n] lie in each of `bins` equal parts of 0..max."""
    counts, edges = np.histogram(values, bins=bins, range=(0.0, _end(values)))
    most = max(1, int(counts.max()))
    bars = []
    for count, (left, right) in zip(counts.tolist(), pairwise(edges.tolist()), strict=True):
        x, end = _x(left, edges[-1]), _x(right, edges[-1])
        y = _y(count / most)
        bars.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.5, end - x - 1):.1f}" '
            f'height="{_y(0) - y:.1f}"><title>{count} from {left:.4g} to {right:.4g}</title></rect>'
        )
    return _chart("".join(bars), float(edges[-1]), ["0", str(most)], label, "images")


def falling_curve(grid: Float, shares: Float, label: str, what: str) -> str:
    """Shares [m] of 0..1 at radii `grid` [m] from 0 up, as a line."""
    end = float(grid[-1])
    points = " ".join(
        f"{_x(r, end):.1f},{_y(s):.1f}" for r, s in zip(grid.tolist(), shares.tolist(), strict=True)
    )
    return _chart(f'<polyline points="{points}"/>', end, ["0%", "100%"], label, what)


def radius_grid(values: Float, points: int = 201) -> Float:
    """Radii from 0 to the largest of `values`."""
    return np.linspace(0.0, _end(values), points)


def _end(values: Float) -> float:
    largest = float(values.max(initial=0.0))
    return largest if largest > 0 else 1.0


def _x(value: float, end: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - 12) * value / end


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share


def _chart(drawing: str, end: float, ends: Sequence[str], label: str, what: str) -> str:
    ticks = "".join(
        f'<text x="{_x(value, end):.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{value:.3g}</text>'
        for value in np.linspace(0.0, end, 5).tolist()
    )
    sides = "".join(
        f'<text x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{text}</text>'
        for share, text in zip((0.0, 1.0), ends, strict=True)
    )
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{what} by {label}">'
        f'<path d="M{_LEFT} {_TOP}V{_y(0)}H{_WIDTH - 12}" class="axis"/>{drawing}{ticks}{sides}'
        f'<text x="{(_WIDTH + _LEFT) / 2}" y="{_HEIGHT - 3}" text-anchor="middle">{label}</text>'
        f"</svg><figcaption>{what}</figcaption></figure>"
    )
