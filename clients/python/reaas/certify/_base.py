"""Base-classifier certification (BC): the certified radius of the client's own classifier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from ._certificates import Certificates
from ._classifier import DownstreamClassifier
from ._crown import crown_margins
from ._ibp import ibp_margins
from ._margins import MarginProblem, magnitudes, rounding
from ._search import LARGEST_RADIUS, SMALLEST_RADIUS, largest_verified_radius

Float = NDArray[np.float64]
MarginBound = Callable[[MarginProblem, Float], Float]

_CHUNK_ENTRIES = 2**22
"""Largest coefficient array of a bound, in numbers (32 MiB): memory does not grow with n."""


def certify_ibp(classifier: DownstreamClassifier, features: ArrayLike) -> Certificates:
    """Feature-space certified L2 radii by interval bound propagation.

    Theorem: `classifier.predict(z') == label` for every `z'` with `||z' - z||_2 <= radius`.
    Failure probability 0 (deterministic), float64 rounding included. For a linear head the
    radius is exact: `min_j margin_j / ||w_y - w_j||_2`. Source: Gowal et al., arXiv 1810.12715.

    `features` is `[n, d]`; raises `InvalidArgumentError` if it does not fit the classifier.
    """
    return _certify(classifier, features, ibp_margins)


def certify_crown(classifier: DownstreamClassifier, features: ArrayLike) -> Certificates:
    """Feature-space certified L2 radii by CROWN.

    Theorem: `classifier.predict(z') == label` for every `z'` with `||z' - z||_2 <= radius`.
    Failure probability 0 (deterministic), float64 rounding included. For a linear head the
    radius is exact: `min_j margin_j / ||w_y - w_j||_2`. Source: Zhang et al., arXiv 1811.00866.

    `features` is `[n, d]`; raises `InvalidArgumentError` if it does not fit the classifier.
    """
    return _certify(classifier, features, crown_margins)


def _certify(
    classifier: DownstreamClassifier, features: ArrayLike, bound: MarginBound
) -> Certificates:
    values = classifier.check_features(features)
    labels = classifier.predict(values) if len(values) else np.zeros(0, np.int64)
    problem = MarginProblem(classifier, values, labels)
    if classifier.is_linear:
        return Certificates(labels, _exact_radii(problem))
    radii = np.zeros(len(values))
    step = chunk_size(classifier)
    for start in range(0, len(values), step):
        rows = np.arange(start, min(start + step, len(values)))
        radii[rows] = _searched_radii(problem.take(rows), bound)
    return Certificates(labels, radii)


def _searched_radii(problem: MarginProblem, bound: MarginBound) -> Float:
    def verified(rows: NDArray[np.intp], radii: Float) -> NDArray[np.bool_]:
        some = problem.take(rows)
        return np.asarray(some.smallest(bound(some, radii)) > 0)

    return largest_verified_radius(verified, len(problem.labels))


def _exact_radii(problem: MarginProblem) -> Float:
    """`min_j margin_j / ||w_y - w_j||_2` of a linear head, rounded against the certificate."""
    classifier, gamma = problem.classifier, rounding(problem.classifier)
    logits = classifier.logits(problem.features)  # [n, k]
    margins = np.take_along_axis(logits, problem.labels[:, None], axis=1) - logits
    margins = margins - gamma * magnitudes(problem, np.zeros(len(logits)))[-1]
    weight = classifier.weights[0]
    lengths = np.linalg.norm(weight, axis=1)  # [k]
    norms = cdist(weight, weight) + gamma * (lengths[:, None] + lengths)  # [k, k]
    smallest = np.finfo(np.float64).tiny  # equal rows of zeros: any positive margin never ends
    radii = problem.smallest(margins / np.maximum(norms[problem.labels], smallest))  # [n]
    return np.where(radii < SMALLEST_RADIUS, 0.0, np.minimum(radii, LARGEST_RADIUS))


def chunk_size(classifier: DownstreamClassifier) -> int:
    """Inputs that a bound may work on at once without needing much memory."""
    largest = max(len(w) for w in classifier.weights) * max(w.shape[1] for w in classifier.weights)
    return max(1, _CHUNK_ENTRIES // int(largest))
