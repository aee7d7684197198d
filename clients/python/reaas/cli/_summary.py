"""Certificates of many images in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reaas.certify import certified_accuracy
from reaas.cli._book import Certified
from reaas.cli._context import rounded


def summary(certified: Sequence[Certified], skipped: int, queries: int) -> dict[str, Any]:
    """Counts, shares and radii; those of right labels are None where no truth is known."""
    radii = np.array([c.radius for c in certified])
    judged = [c for c in certified if c.truth is not None]
    median = float(np.median(radii))
    return {
        "images": len(certified),
        "skipped": skipped,
        "queries": queries,
        "certified": int(np.count_nonzero(radii)),
        "median_radius": median,
        "judged": len(judged),
        "accuracy": float(np.mean([c.right is True for c in judged])) if judged else None,
        "average_certified_radius": float(np.mean([c.radius * (c.right is True) for c in judged]))
        if judged
        else None,
        "certified_accuracy_at_median": float(curve(judged, np.array([median]))[0])
        if judged
        else None,
    }


def curve(certified: Sequence[Certified], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share [m] of images that are certified at each radius of `grid` [m], and right where the
    truth is known."""
    counts = [c.right is not False for c in certified]
    return certified_accuracy(counts, [c.radius for c in certified], [True] * len(counts), grid)


def summary_line(facts: dict[str, Any], model: str) -> str:
    """The numbers in one line."""
    parts = [f"{facts['certified']} of {facts['images']} images certified by {model}"]
    parts.append(f"median R {rounded(facts['median_radius'])}")
    if facts["accuracy"] is not None:
        share = facts["certified_accuracy_at_median"]
        parts.append(f"{facts['accuracy']:.1%} right, {share:.1%} at the median R")
        parts.append(f"ACR {rounded(facts['average_certified_radius'])}")
    parts.append(f"{facts['queries']} queries paid, {facts['skipped']} files skipped")
    return "; ".join(parts)
