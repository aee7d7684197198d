"""Certified radii from votes on noisy copies (Cohen, Rosenfeld and Kolter 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri

from ._certificates import ABSTAIN, Certificates
from ._errors import InvalidArgumentError

Float = NDArray[np.float64]
Int = NDArray[np.int64]

# Scipy's inverse functions round to nearest; their errors are some 1e-15.
_MARGIN = 1e-12


@dataclass(frozen=True)
class SmoothingConfig:
    """How an input is certified by randomized smoothing."""

    sigma: float
    """Standard deviation of the Gaussian noise, in the units of the space it is added in. No
    default: it must fit the scale of the features or images."""
    n0: int = 100
    """Votes that choose the class; Cohen et al.'s value."""
    n: int = 100_000
    """Fresh votes that bound its probability; Cohen et al.'s value, ceiling 3.81 sigma."""
    alpha: float = 0.001
    """Failure probability of one input's certificate; Cohen et al.'s value."""

    def __post_init__(self) -> None:
        _check_noise(self.sigma, self.alpha)
        for field in ("n0", "n"):
            if getattr(self, field) < 1:
                raise InvalidArgumentError(field, f"got {getattr(self, field)}, expected >= 1")


@dataclass(frozen=True)
class VoteBudget:
    """A number of noisy votes an input, of which a tenth chooses the class."""

    n: int
    """Votes that bound the probability; at least 1."""

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InvalidArgumentError("n", f"got {self.n}, expected >= 1")

    @property
    def n0(self) -> int:
        """Votes that choose the class: the ratio 1 : 10 keeps small budgets unhandicapped."""
        return max(1, self.n // 10)

    @property
    def votes(self) -> int:
        """All votes, each one a query where the noise is in the image."""
        return self.n0 + self.n


CURVE_BUDGETS = tuple(VoteBudget(n) for n in (20, 50, 100, 300, 1000))
"""The points of SEaaS's curve of ACR against queries."""


def lower_confidence_bound(successes: ArrayLike, trials: int, alpha: float) -> Float:
    """One-sided Clopper-Pearson lower limits of a probability, elementwise in `successes`.

    Theorem: for a binomial count the limit exceeds the true probability with a probability of
    at most `alpha`. `Beta^-1(alpha; s, trials - s + 1)`, rounded down; 0 without a success.
    """
    counts = np.asarray(successes, np.int64)
    if trials < 1 or np.any((counts < 0) | (counts > trials)):
        raise InvalidArgumentError("successes", f"must lie in 0..{trials}, trials in 1..")
    limits = betaincinv(np.maximum(counts, 1), trials - np.maximum(counts, 1) + 1, alpha)
    return np.where(counts == 0, 0.0, limits * (1 - _MARGIN))


def radius_from_votes(successes: ArrayLike, n: int, alpha: float, sigma: float) -> Float:
    """Certified L2 radii `sigma Phi^-1(pA)` from `successes` of `n` fresh votes for one class.

    Theorem (Cohen et al. 2019, Theorem 1 with pB = 1 - pA): with a probability of at least
    `1 - alpha` the smoothed classifier keeps that class within the radius, which is rounded down.
    0 where the lower limit of its probability does not exceed 1/2 (abstain).
    """
    _check_noise(sigma, alpha)
    probability = lower_confidence_bound(successes, n, alpha)
    quantile: Float = ndtri(np.maximum(probability, 0.5)) * (1 - _MARGIN) - _MARGIN
    return np.asarray(np.maximum(sigma * quantile, 0.0))


def certify_from_counts(
    selection: ArrayLike, estimation: ArrayLike, *, alpha: float, sigma: float
) -> Certificates:
    """Certificates from counts of votes by class: `selection [m, k]`, `estimation [m, k]`.

    The two must come from independent noise; `estimation` has as many votes for each input.
    Theorem and failure probability (`alpha` for each input): see `radius_from_votes`.
    """
    first, fresh = np.asarray(selection, np.int64), np.asarray(estimation, np.int64)
    if first.ndim != 2 or first.shape != fresh.shape:
        raise InvalidArgumentError(
            "estimation", f"got shape {fresh.shape}, expected that of selection, {first.shape}"
        )
    totals = np.unique(fresh.sum(axis=1))
    if len(totals) > 1:
        raise InvalidArgumentError("estimation", f"got {totals} votes, expected equally many")
    labels = np.argmax(first, axis=1)  # [m]
    successes = np.take_along_axis(fresh, labels[:, None], axis=1)[:, 0]
    radii = np.zeros(len(labels))
    if len(labels):
        radii = radius_from_votes(successes, int(totals[0]), alpha, sigma)
    return Certificates(np.where(radii > 0, labels, ABSTAIN), radii, alpha)


def certify_from_votes(
    votes: ArrayLike, *, classes: int, n0: int, alpha: float, sigma: float
) -> Certificates:
    """Certificates from votes as class indices `[m, n0 + n]`, in the order they were drawn.

    The first `n0` of each input choose the class, all others bound its probability.
    Theorem and failure probability (`alpha` for each input): see `radius_from_votes`.
    """
    array = _check_votes(votes, classes, n0)
    return certify_from_counts(
        vote_counts(array[:, :n0], classes),
        vote_counts(array[:, n0:], classes),
        alpha=alpha,
        sigma=sigma,
    )


def certify_budgets(
    votes: ArrayLike,
    *,
    classes: int,
    n0: int,
    alpha: float,
    sigma: float,
    budgets: Sequence[VoteBudget] = CURVE_BUDGETS,
) -> dict[VoteBudget, Certificates]:
    """What smaller budgets would have certified, from one set of votes `[m, n0 + n]`.

    A budget uses the first `budget.n0` of the `n0` selection votes and the first `budget.n` of
    the others, so that each point by itself is a valid certificate at `alpha` for each input;
    the points share noise and are not independent of each other.
    """
    array = _check_votes(votes, classes, n0)
    curve = {}
    for budget in budgets:
        if budget.n0 > n0 or budget.n > array.shape[1] - n0:
            raise InvalidArgumentError(
                "budgets",
                f"{budget.n0} + {budget.n} votes asked, {n0} + {array.shape[1] - n0} given",
            )
        used = np.hstack([array[:, : budget.n0], array[:, n0 : n0 + budget.n]])
        curve[budget] = certify_from_votes(
            used, classes=classes, n0=budget.n0, alpha=alpha, sigma=sigma
        )
    return curve


def vote_counts(votes: NDArray[np.integer], classes: int) -> Int:
    """Counts `[m, classes]` of votes `[m, v]`."""
    shifted = votes + classes * np.arange(len(votes))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=classes * len(votes))
    return counts.reshape(len(votes), classes)


def _check_votes(votes: ArrayLike, classes: int, n0: int) -> Int:
    array = np.asarray(votes)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InvalidArgumentError(
            "votes", f"got {array.dtype} {array.shape}, expected class indices [m, n0 + n]"
        )
    if not 1 <= n0 < array.shape[1]:
        raise InvalidArgumentError("n0", f"got {n0}, expected 1..{array.shape[1] - 1}")
    if array.size and not 0 <= array.min() <= array.max() < classes:
        raise InvalidArgumentError(
            "votes", f"got {array.min()}..{array.max()}, expected 0..{classes - 1}"
        )
    return array.astype(np.int64)


def _check_noise(sigma: float, alpha: float) -> None:
    if not 0 < sigma < np.inf:
        raise InvalidArgumentError("sigma", f"got {sigma}, expected a positive number")
    if not 0 < alpha < 1:
        raise InvalidArgumentError("alpha", f"got {alpha}, expected a probability in (0, 1)")
