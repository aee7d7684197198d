"""The downstream classifier: evaluation, files, and what it refuses."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reaas.certify import DownstreamClassifier, InvalidArgumentError

from .networks import random_classifier


def test_evaluates_affine_maps_with_relu_between() -> None:
    classifier = DownstreamClassifier(
        (np.array([[1.0, 0.0], [0.0, -1.0]]), np.array([[1.0, 1.0], [2.0, 0.0]])),
        (np.array([0.0, 1.0]), np.array([0.0, -0.5])),
    )
    logits = classifier.logits([[2.0, 3.0], [-1.0, -1.0]])
    assert logits.tolist() == [[2.0, 3.5], [2.0, -0.5]]
    assert classifier.predict([[2.0, 3.0], [-1.0, -1.0]]).tolist() == [1, 0]


def test_of_equal_logits_the_lowest_class_wins() -> None:
    classifier = DownstreamClassifier((np.zeros((3, 2)),), (np.array([0.0, 1.0, 1.0]),))
    assert classifier.predict([[5.0, -5.0]]).tolist() == [1]


def test_float32_features_are_taken_as_they_are() -> None:
    classifier = random_classifier(np.random.default_rng(0), 5, 4, 3)
    features = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    np.testing.assert_array_equal(
        classifier.logits(features), classifier.logits(features.astype(np.float64))
    )


@pytest.mark.parametrize("widths", [(7, 3), (7, 5, 3), (7, 6, 5, 2)])
def test_a_saved_classifier_comes_back_bit_for_bit(tmp_path: Path, widths: tuple[int, ...]) -> None:
    classifier = random_classifier(np.random.default_rng(0), *widths)
    classifier.save(tmp_path / "head")
    loaded = DownstreamClassifier.load(tmp_path / "head")
    for mine, its in zip(
        classifier.weights + classifier.biases, loaded.weights + loaded.biases, strict=True
    ):
        np.testing.assert_array_equal(mine, its)


def test_later_writes_to_the_callers_arrays_change_nothing() -> None:
    weight = np.eye(2)
    classifier = DownstreamClassifier((weight,), (np.zeros(2),))
    weight[:] = 7
    assert classifier.weights[0].tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="read-only"):
        classifier.weights[0][0, 0] = 2


@pytest.mark.parametrize(
    ("weights", "biases", "field"),
    [
        ((), (), "biases"),
        ((np.ones((2, 3)),), (), "biases"),
        ((np.ones((2, 3)),), (np.ones(3),), r"biases\[0\]"),
        ((np.ones((2, 3)), np.ones((2, 3))), (np.ones(2), np.ones(2)), r"weights\[1\]"),
        ((np.ones((1, 3)),), (np.ones(1),), "expected at least 2"),
        ((np.ones(3),), (np.ones(3),), r"weights\[0\]"),
        ((np.full((2, 3), np.nan),), (np.ones(2),), r"weights\[0\]: holds NaN"),
        ((np.array([["a", "b"], ["c", "d"]]),), (np.ones(2),), "dtype"),
    ],
)
def test_layers_that_do_not_fit_are_named(weights: Any, biases: Any, field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        DownstreamClassifier(weights, biases)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((2, 4)), r"\(2, 4\), expected \[n, 3\]"),
        (np.zeros(3), r"\(3,\)"),
        (np.array([[0.0, 0.0, 0.0], [0.0, np.inf, 0.0]]), "row 1"),
        (np.zeros((1, 3), complex), "complex"),
    ],
)
def test_features_that_do_not_fit_are_named(features: Any, message: str) -> None:
    classifier = random_classifier(np.random.default_rng(0), 3, 2)
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        classifier.predict(features)
    assert caught.value.field == "features"


def test_files_that_are_no_classifier_are_refused(tmp_path: Path) -> None:
    pickled, other, absent = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.npz"
    pickled.write_bytes(pickle.dumps({"weight_0": 1}))
    np.savez(other, weight_0=np.eye(2), bias_1=np.zeros(2))
    for path in (pickled, other, absent):
        with pytest.raises(InvalidArgumentError, match=path.name):
            DownstreamClassifier.load(path)


def test_names_and_encoder_are_kept(tmp_path: Path) -> None:
    layers = ((np.ones((2, 3)),), (np.zeros(2),))
    head = DownstreamClassifier(
        *layers,
        class_names=("Käse", "<b>"),
        encoder="moco@1@sha256:ab",
        resize="centre to 32x32",
    )
    head.save(tmp_path / "head.npz")
    back = DownstreamClassifier.load(tmp_path / "head.npz")
    assert (back.names, back.encoder, back.resize) == (head.names, head.encoder, head.resize)
    assert back.encoder_digest == "sha256:ab"
    plain = DownstreamClassifier(*layers)
    plain.save(tmp_path / "plain.npz")
    back = DownstreamClassifier.load(tmp_path / "plain.npz")
    assert (back.names, back.encoder_digest) == (("0", "1"), "")


@pytest.mark.parametrize("names", [("a",), ("a", "a"), ("a", "b", "c")])
def test_each_class_has_a_name_of_its_own(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="class_names"):
        DownstreamClassifier((np.ones((2, 3)),), (np.zeros(2),), class_names=names)
