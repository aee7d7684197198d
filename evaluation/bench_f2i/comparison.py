"""Methods side by side: on the images of a target that all of them were asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from reaas_bounds import Method

from evaluation.bench_f2i import lirpa
from evaluation.bench_f2i.report import Row


@dataclass(frozen=True)
class SideBySide:
    """A method's shares of the attacked radii on the first ``images`` of its target."""

    images: int
    median_share: float
    p10_share: float


@dataclass(frozen=True)
class Below:
    """How often AUTO certified less than a single method, of the ``images`` of all targets."""

    images: int
    below: int
    by: dict[str, int]
    """Images by the method that certified more, as `target: method`."""


def side_by_side(rows: Sequence[Row], row: Row) -> SideBySide:
    """``row`` on the images that every method of the engine saw; ``rows``: of the whole run."""
    common = min(other.images for other in _rivals(rows, row) or [row])
    count = min(common, row.images)
    share = np.divide(row.radii[:count], row.attacked[:count])
    return SideBySide(count, float(np.median(share)), float(np.percentile(share, 10)))


def auto_below(rows: Sequence[Row]) -> Below:
    """AUTO against every other method of its encoder and target, image by image."""
    images, below, by = 0, 0, {}
    for auto in rows:
        if auto.method != Method.AUTO.value:
            continue
        rivals = [other for other in _rivals(rows, auto) if other is not auto]
        worse = np.zeros(auto.images, bool)
        for other in rivals:
            count = min(auto.images, other.images)
            more = np.greater(other.radii[:count], auto.radii[:count])
            worse[:count] |= more
            if more.any():
                by[f"{auto.target}: {other.method}"] = int(more.sum())
        images, below = images + auto.images, below + int(worse.sum())
    return Below(images, below, by)


def _rivals(rows: Sequence[Row], row: Row) -> list[Row]:
    """The engine's own methods on the encoder and target of ``row``."""
    same = [other for other in rows if (other.encoder, other.target) == (row.encoder, row.target)]
    return [other for other in same if other.method != lirpa.NAME]
