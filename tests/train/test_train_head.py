"""Training of downstream classifiers: what each objective is good for, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from reaas.certify import (
    DownstreamClassifier,
    InvalidArgumentError,
    SmoothingConfig,
    accuracy,
    average_certified_radius,
    certify_crown,
    certify_smoothed,
)
from reaas.train import HeadConfig, train_head
from reaas.train._data import PrincipalAxes
from reaas.train._layers import HeadLayers, truncated_radius_loss
from reaas.train._selection import Candidate, choose

Batch = tuple[np.ndarray, np.ndarray]


def clusters(count: int, seed: int, noise: float = 1.0, scale: float = 1.0) -> Batch:
    """Four classes told apart by two wide axes and, on top, by ten narrow ones; far from 0."""
    centres = np.random.default_rng(99)
    wide, narrow = centres.normal(size=(4, 2)) * 4, centres.normal(size=(4, 10)) * 0.05
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    features = np.hstack([wide, narrow])[labels]
    spread = np.array([2.0] * 2 + [0.03] * 10) * noise
    features = features + generator.normal(size=features.shape) * spread
    return scale * (features + 30.0), labels


def base_acr(classifier: DownstreamClassifier, batch: Batch) -> float:
    found = certify_crown(classifier, batch[0])
    return average_certified_radius(found.labels, found.radii, batch[1])


TRAIN, TEST = clusters(1500, 1), clusters(600, 2)


def test_plain_training_learns_the_narrow_axes_and_margin_training_the_wide_ones() -> None:
    plain = train_head(*TRAIN, HeadConfig(objective="plain"))
    margin = train_head(*TRAIN, HeadConfig(objective="margin"))
    assert accuracy(plain.predict(TEST[0]), TEST[1]) > 0.9
    assert accuracy(margin.predict(TEST[0]), TEST[1]) > 0.65
    assert base_acr(margin, TEST) > 3 * base_acr(plain, TEST)


def test_a_head_trained_for_smoothing_is_better_when_smoothed() -> None:
    sigma = 1.0
    smoothing = SmoothingConfig(sigma, n=2000)

    def acr(classifier: DownstreamClassifier) -> float:
        found = certify_smoothed(classifier, TEST[0], smoothing, seed=0)
        return average_certified_radius(found.labels, found.radii, TEST[1])

    noise = train_head(*TRAIN, HeadConfig(objective="noise", noise_sigma=sigma))
    plain = train_head(*TRAIN, HeadConfig(objective="plain"))
    assert acr(noise) > 2 * acr(plain)


def test_noisy_copies_train_a_head_for_the_noise_that_they_carry() -> None:
    generator = np.random.default_rng(0)
    features, labels = clusters(400, 3)
    copies = features[:, None] + generator.normal(size=(400, 25, 12))
    robust = train_head(copies, labels, HeadConfig(objective="noise"))
    plain = train_head(features, labels, HeadConfig(objective="plain"))
    noisy = TEST[0] + generator.normal(size=TEST[0].shape)
    assert accuracy(robust.predict(noisy), TEST[1]) > accuracy(plain.predict(noisy), TEST[1])


@pytest.mark.parametrize("hidden", [(), (16,), (12, 8)])
def test_hidden_layers_are_trained_too(hidden: tuple[int, ...]) -> None:
    classifier = train_head(*TRAIN, HeadConfig(hidden=hidden, epochs=20))
    assert [len(bias) for bias in classifier.biases] == [*hidden, 4]
    assert accuracy(classifier.predict(TEST[0]), TEST[1]) > 0.5
    assert base_acr(classifier, TEST) > 0.2


def test_the_same_seed_gives_the_same_head_and_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(5)
    config = HeadConfig(objective="noise", noise_sigma=0.5, epochs=6, hidden=(5,))
    first, second = train_head(*TRAIN, config), train_head(*TRAIN, config)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    other = train_head(*TRAIN, HeadConfig(objective="noise", noise_sigma=0.5, epochs=6, seed=1))
    np.testing.assert_array_equal(first.weights[0], second.weights[0])
    assert first.weights[0].shape != other.weights[0].shape


def test_the_units_of_the_features_do_not_matter() -> None:
    small = train_head(*TRAIN, HeadConfig(epochs=10))
    large_train, large_test = clusters(1500, 1, scale=1000.0), clusters(600, 2, scale=1000.0)
    large = train_head(*large_train, HeadConfig(epochs=10))
    assert base_acr(large, large_test) == pytest.approx(1000 * base_acr(small, TEST), rel=0.05)


def test_progress_counts_epochs() -> None:
    told: list[tuple[int, int]] = []
    for objective in ("plain", "margin"):
        told.clear()
        config = HeadConfig(objective=objective, epochs=7)
        train_head(
            *clusters(60, 0), config, progress=lambda done, total: told.append((done, total))
        )
        assert told == [(i, 7) for i in range(1, 8)]


def test_a_class_of_one_input_and_a_constant_feature_are_no_obstacle() -> None:
    features, labels = clusters(100, 4)
    features[:, 3] = 7.0
    labels[0] = 5  # class 4 has no input, class 5 one
    classifier = train_head(features, labels, HeadConfig(epochs=4))
    assert classifier.classes == 6


def test_principal_axes_change_distances_by_one_factor_only() -> None:
    rows = clusters(200, 5)[0]
    axes = PrincipalAxes.of(rows)
    inside = axes.enter(rows).double().numpy()
    ratio = np.linalg.norm(inside[1:] - inside[0], axis=1) / np.linalg.norm(
        rows[1:] - rows[0], axis=1
    )
    np.testing.assert_allclose(ratio, 1 / axes.scale, rtol=1e-5)
    assert np.mean(np.sum(inside**2, axis=1)) == pytest.approx(1, rel=1e-4)
    generator = np.random.default_rng(0)
    weights, biases = [generator.normal(size=(3, 12))], [generator.normal(size=3)]
    folded = axes.classifier(weights, biases)
    np.testing.assert_allclose(folded.logits(rows), inside @ weights[0].T + biases[0], atol=1e-4)


@pytest.mark.parametrize("hidden", [[], [7]])
def test_the_trained_radius_is_certified(hidden: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    head = HeadLayers([5, *hidden, 3], np.array([1.0, 0.5, 0.2, 0.1, 0.0]), generator)
    features = torch.randn(50, 5, generator=generator)
    with torch.no_grad():
        for bias in head.biases:
            bias.copy_(torch.randn(bias.shape, generator=generator))
        logits = head(features)
        ours = head.certified_radius(logits, logits.argmax(1)).numpy()
        against = head.certified_radius(logits, (logits.argmax(1) + 1) % 3)
    classifier = DownstreamClassifier(*map(tuple, head.arrays()))
    assert (against <= 0).all()
    if not hidden:
        np.testing.assert_allclose(ours, certify_crown(classifier, features).radii, rtol=1e-4)
    directions = np.random.default_rng(0).normal(size=(500, 1, 5))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    moved = features.numpy() + 0.9999 * ours[:, None] * directions  # [500, 50, 5]
    labels = classifier.predict(moved.reshape(-1, 5)).reshape(500, 50)
    assert (labels == logits.argmax(1).numpy()).all()


def test_nothing_is_gained_beyond_the_limit() -> None:
    losses = [float(truncated_radius_loss(torch.tensor([r]), 1.0)) for r in (-9.0, 0, 0.5, 1, 99)]
    assert losses == pytest.approx([1, 0.88, 0.5, 0.12, 0], abs=1e-2)


def test_the_best_score_is_chosen_among_heads_that_are_accurate_enough() -> None:
    heads = [DownstreamClassifier((np.eye(2),), (np.full(2, i),)) for i in range(3)]
    rated = [
        Candidate(head, right, score)
        for head, right, score in zip(heads, (0.8, 0.6, 0.1), (1.0, 2.0, 50.0), strict=True)
    ]
    assert choose(rated, 0.7) is heads[1]
    assert choose(rated, 0.9) is heads[0]
    assert choose(rated, 0.0) is heads[2]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"objective": "best"}, "objective: got 'best'"),
        ({"noise_sigma": 1.0}, "noise_sigma: got 1.0 with the objective 'margin'"),
        ({"objective": "noise", "noise_sigma": 0.0}, "noise_sigma: got 0.0"),
        ({"epochs": 1}, "epochs: got 1"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": float("nan")}, "learning_rate: got nan"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"held_out": 1.0}, "held_out"),
        ({"accuracy_share": 2.0}, "accuracy_share"),
        ({"hidden": (4, 0)}, "hidden"),
        ({"margin_scales": ()}, "margin_scales"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_can_not_be_used_are_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError, match=field):
        HeadConfig(**changes)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros(3), [0, 1, 1], r"features: got shape \(3,\)"),
        (np.zeros((0, 3)), [], r"features: got shape \(0, 3\)"),
        (np.full((3, 2), np.nan), [0, 1, 1], "features: hold NaN"),
        (np.ones((3, 2)), [0, 1], r"labels: got int64 \(2,\), expected 3"),
        (np.ones((3, 2)), [0.0, 1.0, 1.0], "labels: got float64"),
        (np.ones((3, 2)), [0, 0, 0], r"labels: got 0\.\.0"),
        (np.ones((3, 2)), [-1, 0, 1], r"labels: got -1\.\.1"),
        (np.ones((4, 2)), [0, 0, 1, 1], "features: are all equal"),
        (np.eye(2), [0, 1], "labels: no class has 2 inputs"),
    ],
)
def test_data_that_can_not_be_used_is_named(features: Any, labels: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        train_head(features, np.array(labels))


def test_the_source_of_the_noise_must_be_clear() -> None:
    features, labels = clusters(40, 0)
    with pytest.raises(InvalidArgumentError, match="needs a sigma for clean features"):
        train_head(features, labels, HeadConfig(objective="noise"))
    with pytest.raises(InvalidArgumentError, match="with 3 copies of each input"):
        train_head(
            np.repeat(features[:, None], 3, axis=1),
            labels,
            HeadConfig(objective="noise", noise_sigma=1.0),
        )


def test_without_torch_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['torch'] = None\nimport reaas.train"
    got = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert got.returncode == 1
    assert "pip install 'reaas[train]'" in got.stderr
