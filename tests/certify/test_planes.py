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
    assert (planes.normals.shape, planes.offsets.shape) == ((30, 1, 3, 6), (30, 1, 3))
    assert (planes.valid_within.shape, len(planes)) == ((30, 1), 30)
    np.testing.assert_array_equal(planes.labels, classifier.predict(features))
    weight, logits = classifier.weights[0], classifier.logits(features)
    for i, label in enumerate(planes.labels):
        others = [j for j in range(4) if j != label]
        np.testing.assert_array_equal(planes.normals[i, 0], weight[label] - weight[others])
        np.testing.assert_allclose(
            planes.offsets[i, 0], logits[i, label] - logits[i, others], rtol=0, atol=1e-6
        )
        assert (planes.offsets[i, 0] < logits[i, label] - logits[i, others]).all()


def test_the_nearest_border_is_where_crowns_ball_ends() -> None:
    generator = np.random.default_rng(2)
    classifier = random_classifier(generator, 8, 5)
    features = generator.normal(size=(40, 8))
    planes = margin_planes(classifier, features)
    distances = (planes.offsets / np.linalg.norm(planes.normals, axis=3))[:, 0]
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
        a, m, z = planes.normals[i, 0], planes.offsets[i, 0], features[i]
        falls = -(a @ moves[i])  # [k-1]
        share = min((m / np.where(falls > 0, falls, np.inf)).min() * (1 - 1e-15), 1.0)
        moved = z + max(share, 0.0) * moves[i]
        inside = all(
            _exact(row, moved, z) > -Fraction(limit) for row, limit in zip(a, m, strict=True)
        )
        if inside and np.linalg.norm(moved - z) <= planes.valid_within[i, 0]:
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
    deep = random_classifier(np.random.default_rng(0), 6, 5, 4)
    assert margin_planes(deep, np.empty((0, 6)), (1.0, 2.0)).normals.shape == (0, 2, 3, 6)
    assert margin_planes(classifier, np.empty((0, 6))).normals.shape == (0, 1, 3, 6)


HIDDEN = [(5, 9, 3), (5, 8, 7, 4)]


@pytest.mark.parametrize("widths", HIDDEN)
def test_bounds_of_hidden_layers_are_made_in_balls_around_r(widths: tuple[int, ...]) -> None:
    generator = np.random.default_rng(4)
    classifier = random_classifier(generator, *widths)
    features = generator.normal(size=(20, 5))
    planes = margin_planes(classifier, features, (1.0, 2.0))
    found = certify_crown(classifier, features)
    assert planes.normals.shape == (20, 2, classifier.classes - 1, 5)
    np.testing.assert_array_equal(planes.labels, found.labels)
    held = found.radii > 0
    np.testing.assert_allclose(planes.valid_within[held, 0], found.radii[held])
    np.testing.assert_allclose(planes.valid_within[:, 1], 2 * planes.valid_within[:, 0])
    # CROWN certifies R' by these very bounds.
    reach = planes.offsets[:, 0] / np.linalg.norm(planes.normals[:, 0], axis=2)
    assert (reach.min(axis=1)[held] >= found.radii[held] * (1 - 1e-6)).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.sampled_from(HIDDEN),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_the_label_holds_where_a_set_says_so(
    seed: int, widths: tuple[int, ...], scale: float
) -> None:
    """Features up to the balls' ends and up to the first plane, a hair inside."""
    generator = np.random.default_rng(seed)
    plain = random_classifier(generator, *widths)
    classifier = DownstreamClassifier(plain.weights, tuple(scale * bias for bias in plain.biases))
    features = generator.normal(size=(6, 5)) * scale
    planes = margin_planes(classifier, features)
    moves = generator.normal(size=(6, 1, 1, 5)) * np.ones((1, planes.offsets.shape[1], 20, 1))
    moves += 0.5 * generator.normal(size=moves.shape)
    moves *= (planes.valid_within[..., None] / np.linalg.norm(moves, axis=3))[..., None]
    falls = -np.einsum("nsjd,nsed->nsej", planes.normals, moves)  # [n, s, e, k-1]
    shares = planes.offsets[:, :, None] / np.where(falls > 0, falls, np.inf)
    ends = np.clip(shares.min(axis=3), 0, 1) * (1 - 1e-12)  # [n, s, e]
    moved = features[:, None, None] + ends[..., None] * moves
    labels = classifier.predict(moved.reshape(-1, 5)).reshape(ends.shape)
    inside = np.all(planes.offsets > 0, axis=2, keepdims=True)  # [n, s, 1]
    assert ((labels == planes.labels[:, None, None]) | ~inside).all()


def test_a_bound_outside_its_ball_is_no_bound() -> None:
    """Why the balls travel: far away the same half-spaces hold other labels."""
    generator = np.random.default_rng(6)
    classifier = random_classifier(generator, 5, 9, 3)
    features = generator.normal(size=(20, 5))
    planes = margin_planes(classifier, features, (1.0,))
    moved = features + 30 * generator.normal(size=(500, 20, 5))
    rows = np.einsum("njd,end->enj", planes.normals[:, 0], moved - features)
    between = (rows > -planes.offsets[:, 0]).all(axis=2)  # [e, n]
    labels = classifier.predict(moved.reshape(-1, 5)).reshape(between.shape)
    assert (between & (labels != planes.labels)).any()


@pytest.mark.parametrize("reaches", [(), (1.0, 0.0), (-1.0,), (np.inf,), (np.nan,)])
def test_balls_that_make_no_sense_are_refused(reaches: tuple[float, ...]) -> None:
    classifier = random_classifier(np.random.default_rng(0), 6, 5, 4)
    with pytest.raises(InvalidArgumentError, match="reaches: got") as caught:
        margin_planes(classifier, np.zeros((1, 6)), reaches)
    assert caught.value.field == "reaches"


def test_features_of_another_encoder_are_refused() -> None:
    classifier = random_classifier(np.random.default_rng(0), 6, 4)
    with pytest.raises(InvalidArgumentError, match="features"):
        margin_planes(classifier, np.zeros((1, 7)))
