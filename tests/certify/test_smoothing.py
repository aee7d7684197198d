"""SC with feature noise: the distribution of the votes, coverage, and reproducibility."""

from __future__ import annotations

import numpy as np
import pytest
from reaas.certify import (
    DownstreamClassifier,
    InvalidArgumentError,
    SmoothingConfig,
    certify_smoothed,
)
from reaas.certify._smoothing import _NoisyVoter
from scipy.stats import norm

from .networks import random_classifier


@pytest.mark.parametrize("widths", [(12, 2), (2, 4), (6, 9, 3), (9, 5, 4)])
def test_votes_are_distributed_as_with_noise_on_the_feature(widths: tuple[int, ...]) -> None:
    """Noise drawn behind the first layer against noise drawn in feature space."""
    generator, draws, sigma = np.random.default_rng(0), 40_000, 0.7
    classifier = random_classifier(generator, *widths)
    feature = generator.normal(size=widths[0])
    noisy = feature + sigma * generator.standard_normal((draws, widths[0]))
    direct = np.bincount(classifier.predict(noisy), minlength=widths[-1]) / draws
    ours = _NoisyVoter(classifier, sigma).counts(feature, draws, generator) / draws
    spread = np.sqrt(2 * direct * (1 - direct) / draws) + 1e-4
    assert (np.abs(ours - direct) < 4.5 * spread).all()


def test_probability_of_a_linear_head_is_known() -> None:
    classifier = DownstreamClassifier(
        (np.array([[3.0, 0.0, 1.0], [0.0, 4.0, 1.0]]),), (np.array([0.5, 0.0]),)
    )
    feature, sigma, draws = np.array([0.4, 0.1, 2.0]), 0.5, 200_000
    expected = norm.cdf((1.2 + 0.5 - 0.4) / (sigma * 5.0))
    votes = _NoisyVoter(classifier, sigma).counts(feature, draws, np.random.default_rng(2))
    assert votes.sum() == draws
    assert abs(votes[0] / draws - expected) < 4.5 * np.sqrt(expected * (1 - expected) / draws)


def test_radii_exceed_the_true_ones_no_more_often_than_alpha() -> None:
    """Two classes, linear: the smoothed classifier's true radius is `|margin| / ||w_0 - w_1||`."""
    generator = np.random.default_rng(4)
    classifier = random_classifier(generator, 8, 2)
    features = generator.normal(size=(3000, 8))
    config = SmoothingConfig(sigma=1.0, n0=20, n=200, alpha=0.05)
    got = certify_smoothed(classifier, features, config, seed=1)
    logits, weight = classifier.logits(features), classifier.weights[0]
    true = np.abs(logits[:, 0] - logits[:, 1]) / np.linalg.norm(weight[0] - weight[1])
    made = ~got.abstained
    wrong = made & ((got.labels != classifier.predict(features)) | (got.radii > true))
    assert made.mean() > 0.5
    assert wrong.mean() < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 3000)


def test_an_input_keeps_its_certificate_whatever_is_in_its_batch() -> None:
    generator = np.random.default_rng(5)
    classifier = random_classifier(generator, 6, 7, 3)
    features = generator.normal(size=(9, 6))
    config = SmoothingConfig(sigma=0.3, n0=30, n=700)
    whole = certify_smoothed(classifier, features, config, seed=8)
    part = certify_smoothed(classifier, features[4:6], config, seed=8, first_index=4)
    np.testing.assert_array_equal(whole.radii[4:6], part.radii)
    np.testing.assert_array_equal(whole.labels[4:6], part.labels)
    other = certify_smoothed(classifier, features, config, seed=9)
    assert (whole.radii != other.radii).any()


def test_chunks_do_not_change_the_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = random_classifier(np.random.default_rng(6), 5, 8, 4)
    feature = np.ones(5)
    whole = _NoisyVoter(classifier, 1.0).counts(feature, 1003, np.random.default_rng(1))
    monkeypatch.setattr("reaas.certify._smoothing._CHUNK_ENTRIES", 100)
    cut = _NoisyVoter(classifier, 1.0).counts(feature, 1003, np.random.default_rng(1))
    np.testing.assert_array_equal(whole, cut)


def test_defaults_are_those_of_cohen_et_al_and_progress_is_told() -> None:
    config = SmoothingConfig(sigma=0.5)
    assert (config.n0, config.n, config.alpha) == (100, 100_000, 0.001)
    classifier = DownstreamClassifier((np.eye(2),), (np.zeros(2),))
    told: list[tuple[int, int]] = []
    got = certify_smoothed(
        classifier,
        [[9.0, 0.0], [0.0, 9.0]],
        config,
        seed=0,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    assert got.labels.tolist() == [0, 1]
    assert got.radii == pytest.approx(0.5 * 3.811457, abs=1e-6)
    assert got.failure_probability == 0.001


def test_a_negative_seed_is_refused() -> None:
    classifier = random_classifier(np.random.default_rng(0), 2, 2)
    with pytest.raises(InvalidArgumentError, match="seed"):
        certify_smoothed(classifier, np.zeros((1, 2)), SmoothingConfig(sigma=1.0), seed=-1)
