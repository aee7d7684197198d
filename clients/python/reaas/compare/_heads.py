"""Downstream classifiers: for each way to certify, the training that serves it best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reaas.certify import (
    DownstreamClassifier,
    SmoothingConfig,
    average_certified_radius,
    certify_smoothed,
)
from reaas.compare._config import CompareConfig
from reaas.train import HeadConfig, train_head

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

# Enough votes to rank noise levels on held-out training inputs; the certificates use more.
_RANKING_VOTES = 10_000
_HELD_OUT = 0.2


@dataclass(frozen=True)
class SmoothedHead:
    """A classifier and the feature noise that it is to be smoothed with."""

    classifier: DownstreamClassifier
    sigma: float


def base_head(features: Features, labels: Labels, config: CompareConfig) -> DownstreamClassifier:
    """For BC: trained for a large certified margin. features [n, d], labels [n]."""
    return train_head(
        features, labels, HeadConfig(objective="margin", hidden=config.hidden, seed=config.seed)
    )


def smoothed_head(features: Features, labels: Labels, config: CompareConfig) -> SmoothedHead:
    """For REaaS SC: trained with feature noise, at the level with the largest held-out ACR of R'.

    Only training inputs are looked at. features [n, d], labels [n].
    """
    sigmas = [factor * _spread(features) for factor in config.feature_sigmas]
    held = _held_out(len(labels), config.seed)
    scores = [_held_out_acr(features, labels, held, sigma, config) for sigma in sigmas]
    best = sigmas[int(np.argmax(scores))]
    return SmoothedHead(_noise_trained(features, labels, best, config), best)


def noisy_head(features: Features, labels: Labels, config: CompareConfig) -> DownstreamClassifier:
    """For SEaaS: trained on the features of all noisy copies, chosen by smoothed ACR.

    features [n, copies, d], labels [n]. The features have their noise in them already.
    """
    return train_head(
        features, labels, HeadConfig(objective="noise", hidden=config.hidden, seed=config.seed)
    )


def _noise_trained(
    features: Features, labels: Labels, sigma: float, config: CompareConfig
) -> DownstreamClassifier:
    head = HeadConfig(objective="noise", noise_sigma=sigma, hidden=config.hidden, seed=config.seed)
    return train_head(features, labels, head)


def _held_out_acr(
    features: Features,
    labels: Labels,
    held: NDArray[np.bool_],
    sigma: float,
    config: CompareConfig,
) -> float:
    """ACR of R' in feature space on the held-out inputs, for one noise level."""
    classifier = _noise_trained(features[~held], labels[~held], sigma, config)
    smoothing = SmoothingConfig(sigma=sigma, n=_RANKING_VOTES, alpha=config.alpha)
    found = certify_smoothed(classifier, features[held], smoothing, seed=config.seed)
    return average_certified_radius(found.labels, found.radii, labels[held])


def _spread(features: Features) -> float:
    """Standard deviation per coordinate, pooled: the scale of the feature space."""
    return float(np.sqrt(np.mean(np.var(features.astype(np.float64), axis=0))))


def _held_out(count: int, seed: int) -> NDArray[np.bool_]:
    """Mask [count] of the inputs kept apart for ranking."""
    return np.random.default_rng(seed).permutation(count) < round(_HELD_OUT * count)
