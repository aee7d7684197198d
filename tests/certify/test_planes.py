"""Decision borders of a linear classifier: exact, and rounded against the certificate."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas.certify import (
    DownstreamClassifier,
    InvalidArgumentError,
    certify_crown,
    margin_planes,
)

from .networks import random_classifier


def test_planes_are_the_classifiers_own_borders() -> None:
    generator = np.random.default_rng(1)
    classifier = random_classifier(generator, 6, 4)
    features = generator.normal(size=(30, 6))
    planes = margin_planes(classifier, features)
    assert (planes.normals.shape, planes.offsets.shape, len(planes)) == ((30, 3, 6), (30, 3), 30)
    np.testing.assert_array_equal(planes.labels, classifier.predict(features))
    weight, logits = classifier.weights[0], classifier.logits(features)
    for i, label in enumerate(planes.labels):
        others = [j for j in range(4) if j != label]
        np.testing.assert_array_equal(planes.normals[i], weight[label] - weight[others])
        np.testing.assert_allclose(
            planes.offsets[i], logits[i, label] - logits[i, others], rtol=0, atol=1e-6
        )
        assert (planes.offsets[i] < logits[i, label] - logits[i, others]).all()


def test_the_nearest_border_is_where_crowns_ball_ends() -> None:
    generator = np.random.default_rng(2)
    classifier = random_classifier(generator, 8, 5)
    features = generator.normal(size=(40, 8))
    planes = margin_planes(classifier, features)
    distances = planes.offsets / np.linalg.norm(planes.normals, axis=2)
    radii = certify_crown(classifier, features).radii
    np.testing.assert_allclose(distances.min(axis=1), radii, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    stretch=st.sampled_from([1e-3, 1.0, 1e3, 9e5]),
)
def test_the_label_holds_between_the_planes_even_in_float64(
    seed: int, scale: float, stretch: float
) -> None:
    """Moves end a hair inside the nearest plane, in exact arithmetic."""
    generator = np.random.default_rng(seed)
    classifier = random_classifier(generator, 5, 3)
    features = generator.normal(size=(8, 5)) * scale
    planes = margin_planes(classifier, features)
    moves = generator.normal(size=(8, 5))
    moves *= (stretch * np.linalg.norm(features, axis=1) / np.linalg.norm(moves, axis=1))[:, None]
    for i in range(8):
        a, m, z = planes.normals[i], planes.offsets[i], features[i]
        falls = -(a @ moves[i])  # [k-1]
        share = min((m / np.where(falls > 0, falls, np.inf)).min() * (1 - 1e-15), 1.0)
        moved = z + max(share, 0.0) * moves[i]
        inside = all(
            _exact(row, moved, z) > -Fraction(limit) for row, limit in zip(a, m, strict=True)
        )
        if inside and np.linalg.norm(moved - z) <= planes.reach[i]:
            assert classifier.predict(moved[None])[0] == planes.labels[i]


def _exact(row: np.ndarray, moved: np.ndarray, start: np.ndarray) -> Fraction:
    return sum(
        (
            Fraction(float(a)) * (Fraction(float(b)) - Fraction(float(c)))
            for a, b, c in zip(row, moved, start, strict=True)
        ),
        Fraction(0),
    )


def test_a_tie_leaves_nothing() -> None:
    classifier = DownstreamClassifier((np.eye(2),), (np.zeros(2),))
    planes = margin_planes(classifier, np.array([[1.0, 1.0]]))
    assert planes.labels.tolist() == [0]
    assert (planes.offsets < 0).all()


def test_classes_without_a_border_limit_nothing() -> None:
    classifier = DownstreamClassifier((np.ones((2, 3)),), (np.array([1.0, 0.0]),))
    planes = margin_planes(classifier, np.ones((4, 3)))
    assert (planes.normals == 0).all()
    assert (planes.offsets > 0.99).all()


def test_no_features_have_no_planes() -> None:
    classifier = random_classifier(np.random.default_rng(0), 6, 4)
    assert margin_planes(classifier, np.empty((0, 6))).normals.shape == (0, 3, 6)


def test_hidden_layers_are_refused() -> None:
    classifier = random_classifier(np.random.default_rng(0), 6, 5, 4)
    with pytest.raises(InvalidArgumentError, match="need a linear classifier") as caught:
        margin_planes(classifier, np.zeros((1, 6)))
    assert caught.value.field == "classifier"


def test_features_of_another_encoder_are_refused() -> None:
    classifier = random_classifier(np.random.default_rng(0), 6, 4)
    with pytest.raises(InvalidArgumentError, match="features"):
        margin_planes(classifier, np.zeros((1, 7)))
