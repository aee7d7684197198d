"""The decision borders of a linear classifier around a feature: margins for F2IPerturb."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._classifier import DownstreamClassifier
from ._errors import InvalidArgumentError
from ._margins import MarginProblem, magnitudes, rounding

Float = NDArray[np.float64]

_REACH = 1e6
"""How far a feature may move, in units of its own norm, so that the rounding of the classifier
there is still covered: far beyond any image. It costs a margin about 1e-7 of ||w|| ||z||."""


@dataclass(frozen=True, eq=False)
class MarginPlanes:
    """Labels y of n features z, and half-spaces in which they hold.

    Theorem: `classifier.predict(z') == labels[i]` for every z' with
    `normals[i, j] . (z' - z) > -offsets[i, j]` for all j and `||z' - z||_2 <= reach[i]`.
    Deterministic (failure probability 0), the float64 rounding of `predict` included.
    """

    labels: NDArray[np.int64]
    """[n]"""
    normals: Float
    """[n, k-1, d], `w_y - w_j` for each other class j in ascending order."""
    offsets: Float
    """[n, k-1], `g_y(z) - g_j(z)` less what rounding may hide; not positive where nothing holds."""
    reach: Float
    """[n], how far from z the rounding of `predict` is covered: a million times `||z||_2`."""

    def __len__(self) -> int:
        return len(self.labels)


def margin_planes(classifier: DownstreamClassifier, features: ArrayLike) -> MarginPlanes:
    """The half-spaces of a linear classifier around features `[n, d]`; deterministic.

    Exact but for float64: the offsets have a reserve for the rounding of the logits at z, of the
    normals, and of `predict` at every z' within `reach` (see `rounding`, `magnitudes`).

    Raises `InvalidArgumentError` if the classifier has hidden layers, or `features` do not fit it.
    """
    if not classifier.is_linear:
        hidden = len(classifier.weights) - 1
        raise InvalidArgumentError(
            "classifier", f"got {hidden} hidden layers, margins need a linear classifier"
        )
    values = classifier.check_features(features)
    logits = classifier.logits(values)  # [n, k]
    labels = np.asarray(np.argmax(logits, axis=1), np.int64)
    problem = MarginProblem(classifier, values, labels)
    margins = np.take_along_axis(logits, labels[:, None], axis=1) - logits  # [n, k]
    reach = _REACH * np.linalg.norm(values, axis=1)  # [n]
    reserve = rounding(classifier) * magnitudes(problem, reach)[-1]  # [n, k]
    others = np.arange(classifier.classes) != labels[:, None]  # [n, k]
    count = classifier.classes - 1
    normals = problem.rows()[others].reshape(len(values), count, classifier.feature_dim)
    offsets = (margins - reserve)[others].reshape(len(values), count)
    return MarginPlanes(labels, normals, offsets, reach)
