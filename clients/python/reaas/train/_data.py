"""The training data: checked, split, and seen from its own axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from reaas.certify import DownstreamClassifier, InvalidArgumentError

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Features `[n, copies, d]` of n inputs with their labels `[n]`."""

    features: Float
    labels: Int

    @property
    def copies(self) -> int:
        """Noisy copies of each input; 1 for clean features."""
        return int(self.features.shape[1])

    @property
    def flat(self) -> tuple[Float, Int]:
        """Rows `[n * copies, d]` and their labels `[n * copies]`."""
        rows = self.features.reshape(-1, self.features.shape[2])
        return rows, np.repeat(self.labels, self.copies)

    def split(self, held_out: float, generator: np.random.Generator) -> tuple[Samples, Samples]:
        """Training and held-out inputs; all copies of an input stay on one side.

        Each class gives its share, so that a rare one is on both sides if it has two inputs.
        """
        held = np.zeros(len(self.labels), bool)
        for label in np.unique(self.labels):
            rows = generator.permutation(np.flatnonzero(self.labels == label))
            wanted = max(1, round(held_out * len(rows)))
            held[rows[: min(wanted, len(rows) - 1)]] = True
        if not held.any():
            raise InvalidArgumentError("labels", "no class has 2 inputs: nothing can be held out")
        return self._take(~held), self._take(held)

    def _take(self, rows: NDArray[np.bool_]) -> Samples:
        return Samples(self.features[rows], self.labels[rows])


def check_samples(features: ArrayLike, labels: ArrayLike) -> Samples:
    """Features `[n, d]` or `[n, copies, d]` and labels `[n]`, or `InvalidArgumentError`."""
    values, classes = np.asarray(features, np.float64), np.asarray(labels)
    if values.ndim == 2:
        values = values[:, None, :]
    if values.ndim != 3 or values.size == 0:
        raise InvalidArgumentError(
            "features", f"got shape {np.shape(features)}, expected [n, d] or [n, copies, d]"
        )
    if not np.isfinite(values).all():
        raise InvalidArgumentError("features", "hold NaN or infinity")
    if classes.shape != values.shape[:1] or classes.dtype.kind not in "iu":
        raise InvalidArgumentError(
            "labels", f"got {classes.dtype} {classes.shape}, expected {len(values)} integers"
        )
    if classes.min() < 0 or classes.max() < 1:
        raise InvalidArgumentError(
            "labels", f"got {classes.min()}..{classes.max()}, expected 0..k-1 with k >= 2"
        )
    return Samples(values, classes.astype(np.int64))


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Feature space moved, turned and scaled as a whole, so that L2 radii only change by `scale`.

    Centred on the mean, in principal axes, with a root mean square norm of 1. Axes matter to
    Adam's steps, which are per coordinate, not to what a head can express.
    """

    mean: Float
    """[d]"""
    axes: Float
    """[d, d], orthogonal; rows are the axes"""
    scale: float
    spread: Float
    """[d], standard deviation along each axis after scaling"""

    @classmethod
    def of(cls, rows: Float) -> PrincipalAxes:
        """The principal axes of `rows [n, d]`."""
        mean = rows.mean(axis=0)
        covariance = np.atleast_2d(np.cov(rows, rowvar=False, bias=True))  # [d, d]
        variance, axes = np.linalg.eigh(covariance)
        scale = float(np.sqrt(max(variance.sum(), 0.0)))
        if scale == 0:
            raise InvalidArgumentError("features", "are all equal: there is nothing to learn")
        return cls(mean, axes.T, scale, np.sqrt(np.maximum(variance, 0.0)) / scale)

    def enter(self, rows: Float) -> Tensor:
        """Rows `[n, d]` in these coordinates, float32 for training."""
        return torch.from_numpy((rows - self.mean) @ self.axes.T / self.scale).float()

    def classifier(self, weights: list[Float], biases: list[Float]) -> DownstreamClassifier:
        """Layers on these coordinates as a classifier on the features themselves."""
        first = weights[0] @ self.axes / self.scale  # [h, d]
        shifted = biases[0] - first @ self.mean
        return DownstreamClassifier((first, *weights[1:]), (shifted, *biases[1:]))
