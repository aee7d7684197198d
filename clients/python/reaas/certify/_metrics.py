"""What a set of certificates is worth: ACR and certified accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._errors import InvalidArgumentError

Float = NDArray[np.float64]


def accuracy(labels: ArrayLike, truth: ArrayLike) -> float:
    """Share of inputs with the true label; an abstention is never right."""
    return float(np.mean(_correct(labels, truth)))


def average_certified_radius(labels: ArrayLike, radii: ArrayLike, truth: ArrayLike) -> float:
    """ACR (Zhai et al. 2020, MACER): mean over all inputs of the radius, 0 where wrong."""
    correct = _correct(labels, truth)
    return float(np.mean(np.where(correct, _radii(radii, correct), 0.0)))


def certified_accuracy(
    labels: ArrayLike, radii: ArrayLike, truth: ArrayLike, grid: ArrayLike
) -> Float:
    """Share of inputs that are right and certified at each radius of `grid [m]` -> `[m]`."""
    correct = _correct(labels, truth)
    certified = np.sort(_radii(radii, correct)[correct])
    below = np.searchsorted(certified, np.asarray(grid, np.float64), side="left")
    return np.asarray((len(certified) - below) / len(correct))


def _correct(labels: ArrayLike, truth: ArrayLike) -> NDArray[np.bool_]:
    got, wanted = np.asarray(labels), np.asarray(truth)
    if got.ndim != 1 or got.shape != wanted.shape:
        raise InvalidArgumentError(
            "truth", f"got shape {wanted.shape} for labels of shape {got.shape}, expected [n] both"
        )
    if not len(got):
        raise InvalidArgumentError("labels", "got no input, a mean needs one")
    return np.asarray(got == wanted)


def _radii(radii: ArrayLike, like: NDArray[np.bool_]) -> Float:
    array = np.asarray(radii, np.float64)
    if array.shape != like.shape or not np.all(array >= 0):
        raise InvalidArgumentError(
            "radii", f"got shape {array.shape}, expected {like.shape} and no negative or NaN entry"
        )
    return array
