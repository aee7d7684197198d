"""Half-spaces around a feature in which a classifier's label holds: margins for F2IPerturb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._base import certify_crown, chunk_size
from ._classifier import DownstreamClassifier
from ._crown import crown_planes
from ._errors import InvalidArgumentError
from ._margins import MarginProblem, magnitudes, rounding
from ._search import SMALLEST_RADIUS

Float = NDArray[np.float64]

REACHES = (1.0, 1.1, 1.2, 1.4, 1.8, 2.3)
"""Balls in which the bounds of a classifier with hidden layers are made, in units of its certified
radius R'. The larger, the looser the bounds; measured, 1.1 to 1.5 win for encoders with a good
Lipschitz constant, about 2 for those with a poor one."""
_LINEAR_REACH = 1e6
"""How far a feature may move, in units of its own norm, so that the rounding of a linear classifier
there is still covered: far beyond any image. It costs a margin about 1e-7 of ||w|| ||z||."""


@dataclass(frozen=True, eq=False)
class MarginPlanes:
    """Labels y of n features z, and sets of half-spaces in which they hold.

    Theorem: `classifier.predict(z') == labels[i]` for every z' for which some set s has
    `normals[i, s, j] . (z' - z) > -offsets[i, s, j]` for all j and
    `||z' - z||_2 <= valid_within[i, s]`.
    Deterministic (failure probability 0), the float64 rounding of `predict` included.
    """

    labels: NDArray[np.int64]
    """[n]"""
    normals: Float
    """[n, s, k-1, d]: for each other class j in ascending order the slope of `g_y - g_j`, or of a
    lower bound of it."""
    offsets: Float
    """[n, s, k-1], its value at z less what rounding may hide; not positive where nothing holds."""
    valid_within: Float
    """[n, s], radius of the ball around z in which the set says something, above 0."""

    def __len__(self) -> int:
        return len(self.labels)


def margin_planes(
    classifier: DownstreamClassifier,
    features: ArrayLike,
    reaches: Sequence[float] = REACHES,
) -> MarginPlanes:
    """Sets of half-spaces around features `[n, d]` for `Client.perturb_margins`; deterministic.

    Linear classifier: its own decision borders, one set, exact but for float64: the offsets have a
    reserve for the rounding of the logits at z, of the normals, and of `predict` at every z' within
    `valid_within` (see `rounding`, `magnitudes`). Hidden layers: for each of `reaches` the linear
    lower bounds of `crown_planes` over the ball of that many times the certified radius R' (CROWN).
    Near z they hold further than R' in the directions that the encoder moves features in.

    Raises `InvalidArgumentError` if `features` do not fit the classifier, or `reaches` is empty or
    not positive.
    """
    if not len(reaches) or not all(0 < reach < np.inf for reach in reaches):
        raise InvalidArgumentError("reaches", f"got {list(reaches)}, expected positive numbers")
    values = classifier.check_features(features)
    if classifier.is_linear:
        return _borders(classifier, values)
    found = certify_crown(classifier, values)
    held = found.radii > 0
    # Where nothing is certified the sets look like those of the other inputs.
    stand_in = float(np.median(found.radii[held])) if held.any() else 1.0
    within = np.where(held, found.radii, stand_in)[:, None] * np.asarray(reaches)  # [n, s]
    problem, step = MarginProblem(classifier, values, found.labels), chunk_size(classifier)
    parts = [
        _bounds(problem.take(rows), within[rows])
        for rows in np.array_split(np.arange(len(values)), -(-len(values) // step) or 1)
    ]
    normals, offsets = (np.concatenate(part) for part in zip(*parts, strict=True))
    return MarginPlanes(found.labels, normals, offsets, within)


def _borders(classifier: DownstreamClassifier, features: Float) -> MarginPlanes:
    logits = classifier.logits(features)  # [n, k]
    labels = np.asarray(np.argmax(logits, axis=1), np.int64)
    problem = MarginProblem(classifier, features, labels)
    margins = np.take_along_axis(logits, labels[:, None], axis=1) - logits  # [n, k]
    within = np.maximum(_LINEAR_REACH * np.linalg.norm(features, axis=1), SMALLEST_RADIUS)  # [n]
    reserve = rounding(classifier) * magnitudes(problem, within)[-1]  # [n, k]
    normals, offsets = _of_others(problem, problem.rows(), margins - reserve)
    return MarginPlanes(labels, normals[:, None], offsets[:, None], within[:, None])


def _bounds(problem: MarginProblem, within: Float) -> tuple[Float, Float]:
    """Normals [n, s, k-1, d] and offsets [n, s, k-1] of CROWN over balls of radii [n, s]."""
    bounds = [crown_planes(problem, radii) for radii in within.T]
    each = [_of_others(problem, bound.rows, bound.centre) for bound in bounds]
    normals, offsets = (np.stack(part, axis=1) for part in zip(*each, strict=True))
    return normals, offsets


def _of_others(problem: MarginProblem, rows: Float, values: Float) -> tuple[Float, Float]:
    """`rows [n, k, d]` and `values [n, k]` without those of the label itself."""
    count, classes = values.shape
    others = np.arange(classes) != problem.labels[:, None]  # [n, k]
    shape = (count, classes - 1)
    return rows[others].reshape(*shape, rows.shape[2]), values[others].reshape(shape)
