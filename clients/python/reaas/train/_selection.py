"""What a trained head is worth on held-out inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from reaas.certify import (
    DownstreamClassifier,
    SmoothingConfig,
    accuracy,
    average_certified_radius,
    certify_crown,
    certify_smoothed,
)

from ._config import HeadConfig
from ._data import Samples

_RANKING_VOTES = 1000
"""Votes an input for ranking smoothed heads; 100 times fewer than a certificate uses."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A head with its held-out accuracy and score (accuracy, or ACR in feature units)."""

    classifier: DownstreamClassifier
    accuracy: float
    score: float


def choose(candidates: list[Candidate], accuracy_share: float) -> DownstreamClassifier:
    """The best score among the heads whose accuracy is at least that share of the best one."""
    needed = accuracy_share * max(candidate.accuracy for candidate in candidates)
    able = [candidate for candidate in candidates if candidate.accuracy >= needed]
    return max(able, key=lambda candidate: candidate.score).classifier


def rate(classifier: DownstreamClassifier, held: Samples, config: HeadConfig) -> Candidate:
    """The head with its worth for `config.objective`."""
    labels = classifier.predict(held.flat[0])
    right = accuracy(labels, held.flat[1])
    scores: dict[str, Callable[[], float]] = {
        "plain": lambda: right,
        "margin": lambda: _base_acr(classifier, held),
        "noise": lambda: _smoothed_acr(classifier, held, config),
    }
    return Candidate(classifier, right, scores[config.objective]())


def _base_acr(classifier: DownstreamClassifier, held: Samples) -> float:
    features, truth = held.flat
    found = certify_crown(classifier, features)
    return average_certified_radius(found.labels, found.radii, truth)


def _smoothed_acr(classifier: DownstreamClassifier, held: Samples, config: HeadConfig) -> float:
    if config.noise_sigma is None:
        return _radius_of_copies(classifier, held)
    features, truth = held.flat
    smoothing = SmoothingConfig(config.noise_sigma, n=_RANKING_VOTES)
    found = certify_smoothed(classifier, features, smoothing, seed=config.seed)
    return average_certified_radius(found.labels, found.radii, truth)


def _radius_of_copies(classifier: DownstreamClassifier, held: Samples) -> float:
    """Mean `Phi^-1` of the share of an input's noisy copies that are right: ACR over sigma.

    An estimate for ranking, not a certificate. Half a copy is added on either side, so that a
    unanimous input counts as much as that many copies can tell.
    """
    labels = classifier.predict(held.flat[0]).reshape(-1, held.copies)
    right = (labels == held.labels[:, None]).sum(axis=1)  # [n]
    share = (right + 0.5) / (held.copies + 1)
    return float(np.mean(np.maximum(ndtri(share), 0.0)))
