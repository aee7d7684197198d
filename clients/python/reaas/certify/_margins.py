"""The margins of the predicted class, and what floating point may do to a bound on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._classifier import DownstreamClassifier

Float = NDArray[np.float64]

_UNIT_ROUNDOFF = 2.0**-53


@dataclass(frozen=True, eq=False)
class MarginProblem:
    """A batch of features `z` with the margins `g_y - g_j` of their predicted classes `y`.

    The differences are merged into the last layer, so that a bound sees the margin itself and not
    two logits whose common part it would count twice. Row `y` of each input is the zero margin.
    """

    classifier: DownstreamClassifier
    features: Float
    """`[n, d]`"""
    labels: NDArray[np.int64]
    """`[n]`"""

    def take(self, rows: NDArray[np.intp]) -> MarginProblem:
        """The same problem for some of the inputs."""
        return MarginProblem(self.classifier, self.features[rows], self.labels[rows])

    def rows(self) -> Float:
        """`[n, k, h]`, the last layer's weights of each margin."""
        last = self.classifier.weights[-1]  # [k, h]
        return np.asarray(last[self.labels][:, None, :] - last[None])

    def offsets(self) -> Float:
        """`[n, k]`, the last layer's bias of each margin."""
        last = self.classifier.biases[-1]  # [k]
        return np.asarray(last[self.labels][:, None] - last[None])

    def smallest(self, margins: Float) -> Float:
        """`[n]`, the least of the margins `[n, k]` against the other classes."""
        others = margins.copy()
        others[np.arange(len(others)), self.labels] = np.inf
        return np.asarray(others.min(axis=1))


def rounding(classifier: DownstreamClassifier) -> float:
    """The relative outward margin `gamma` of every bound computed in float64.

    An inner product of `h` terms carries an error of at most `(h + 2) u` times the sum of its
    terms' magnitudes, in any order of summation (Higham, Accuracy and Stability, 3.1). Along a
    path through L layers these add up to `sum_i (h_i + 8) u` of a magnitude that `magnitudes`
    bounds up to the factor L (a CROWN bound adds one intercept a layer). The factor 4 covers
    the rounding of gamma's own use and that of `DownstreamClassifier.predict` at the perturbed
    feature: a certified label is the one which `predict` computes, not only the exact one.
    """
    fan_in = sum(int(weight.shape[1]) + 8 for weight in classifier.weights)
    return 4 * len(classifier.weights) * fan_in * _UNIT_ROUNDOFF


def magnitudes(problem: MarginProblem, radii: Float) -> list[Float]:
    """Bounds of the sums of magnitudes in each layer, over the balls of `radii [n]`.

    The network with absolute weights at `|z|`, widened by the ball in the first layer: `[n, h]`
    for each hidden layer, then `[n, k]` for the margins.
    """
    classifier, values = problem.classifier, np.abs(problem.features)  # [n, d]
    widths = np.zeros_like(classifier.biases[0])  # [h]
    result: list[Float] = []
    for i, (weight, bias) in enumerate(zip(classifier.weights, classifier.biases, strict=True)):
        values = values @ np.abs(weight).T + np.abs(bias)  # [n, h]
        if i == 0:
            widths = np.linalg.norm(weight, axis=1)
            values = values + radii[:, None] * widths
        result.append(values)
    own = np.take_along_axis(result[-1], problem.labels[:, None], axis=1)  # [n, 1]
    result[-1] = result[-1] + own  # |g_y - g_j| <= |g_y| + |g_j|
    return result
