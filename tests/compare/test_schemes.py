"""Both schemes against a linear encoder, of which every radius is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from reaas import Client, DigestMismatchError, ModelNotFoundError
from reaas.certify import (
    ABSTAIN,
    DownstreamClassifier,
    InvalidArgumentError,
    SmoothingConfig,
)
from reaas.schemes import NotApplicableError, ReaasScheme, SeaasScheme, pin_model
from reaas.schemes._reaas_scheme import Target
from reaas.testing import FakeModel, FakeServer

from tests.certify.networks import margin_gradient

INPUTS = 12
TARGETS: tuple[Target, ...] = ("ball", "margin")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, server.address) as connected:
        yield connected


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (INPUTS, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def classifier() -> DownstreamClassifier:
    """Two classes with the border through the mean feature, so that both occur."""
    random = np.random.default_rng(2)
    weights = random.normal(size=(2, 8))
    mean = FakeModel().encode(np.full((1, 4, 4, 3), 0.5, np.float32))[0]
    return DownstreamClassifier((weights,), (-weights @ mean,))


def exact_radii(
    images: NDArray[np.uint8], classifier: DownstreamClassifier, model: FakeModel
) -> NDArray[np.float64]:
    """Distance of each image to the border of the composed linear classifier."""
    normal = classifier.weights[0][0] - classifier.weights[0][1]  # [d]
    offset = classifier.biases[0][0] - classifier.biases[0][1]
    margins = (images.reshape(len(images), -1) / 255.0) @ model.weights.T @ normal + offset
    return np.asarray(np.abs(margins) / np.linalg.norm(normal @ model.weights))


def queries(server: FakeServer, **wanted: str) -> int:
    return server.meter.totals(**wanted).queries


def test_base_certificates_are_sound_and_the_ball_costs_nothing_here(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    exact = exact_radii(images, classifier, server.model)
    for method in ("crown", "ibp"):
        found = ReaasScheme(client, "fake", batch_inputs=5).certify_base(
            images,
            classifier,
            method,
        )
        assert np.all(found.radii <= exact)
        assert np.allclose(found.radii, exact, rtol=1e-3)
        assert found.model == server.model.ref
        assert set(found.methods or ()) == {"lipschitz"}


def test_margins_are_sound_and_exact_here(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    exact = exact_radii(images, classifier, server.model)
    found = ReaasScheme(client, "fake", batch_inputs=5).certify_base(
        images, classifier, target="margin"
    )
    assert np.all(found.radii <= exact)
    assert np.allclose(found.radii, exact, rtol=1e-3)
    assert found.feature_radii is None
    assert queries(server, phase="test", api="feature") == INPUTS
    assert queries(server, phase="test", api="f2iperturb") == INPUTS


def test_margins_of_many_classes_reach_at_least_as_far_as_the_ball(
    client: Client, images: NDArray[np.uint8]
) -> None:
    random = np.random.default_rng(3)
    many = DownstreamClassifier((random.normal(size=(6, 8)),), (random.normal(size=6),))
    scheme = ReaasScheme(client, "fake")
    ball, margins = (scheme.certify_base(images, many, target=t) for t in TARGETS)
    assert np.array_equal(ball.labels, margins.labels)
    assert np.all(margins.radii >= ball.radii * (1 - 1e-3))


def test_margins_of_a_classifier_that_ignores_its_input_stay_covered(
    server: FakeServer, client: Client, images: NDArray[np.uint8]
) -> None:
    """Nothing limits them but how far the rounding of the classifier is covered."""
    ignorant = DownstreamClassifier((np.ones((2, 8)),), (np.array([1.0, 0.0]),))
    found = ReaasScheme(client, "fake").certify_base(images, ignorant, target="margin")
    lengths = np.linalg.norm(client.encode(images, "fake").values, axis=1)
    assert np.all(found.radii * server.model.lipschitz <= 1e6 * lengths)
    assert np.all(found.radii > 100)


def hidden_layers(*widths: int) -> DownstreamClassifier:
    """Three classes behind hidden layers, with borders near the mean feature."""
    random = np.random.default_rng(3)
    value = FakeModel().encode(np.full((1, 4, 4, 3), 0.5, np.float32))[0].astype(np.float64)
    weights, biases = [], []
    for width in (*widths, 3):
        weights.append(random.normal(size=(width, len(value))) / np.sqrt(len(value)))
        biases.append(0.05 * random.normal(size=width) - weights[-1] @ value)
        value = np.maximum(weights[-1] @ value + biases[-1], 0.0)
    return DownstreamClassifier(tuple(weights), tuple(biases))


@pytest.mark.parametrize("widths", [(16,), (12, 10)])
def test_margins_of_hidden_layers_are_sound_and_reach_at_least_as_far_as_the_ball(
    server: FakeServer, client: Client, images: NDArray[np.uint8], widths: tuple[int, ...]
) -> None:
    deep = hidden_layers(*widths)
    scheme = ReaasScheme(client, "fake", batch_inputs=5)
    ball = scheme.certify_base(images, deep)
    before = queries(server)
    margins = scheme.certify_base(images, deep, target="margin")
    assert queries(server) - before == 2 * INPUTS
    assert np.array_equal(ball.labels, margins.labels)
    assert np.all(margins.radii >= ball.radii * (1 - 1e-3))
    assert not fallen(images, deep, margins.labels, margins.radii, server.model).any()
    assert fallen(images, deep, margins.labels, 8 * margins.radii, server.model).any()


def fallen(
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
    labels: NDArray[np.int64],
    radii: NDArray[np.float64],
    model: FakeModel,
) -> NDArray[np.bool_]:
    """Which labels [n] fall to PGD on the pixels within `radii` [n] (a hair inside)."""
    flat, random = images.reshape(len(images), -1) / 255.0, np.random.default_rng(4)
    lost = np.zeros(len(images), bool)
    for shift in range(1, classifier.classes):
        rivals = (labels + shift) % classifier.classes
        for start in (np.zeros_like(flat), random.normal(size=flat.shape)):
            delta = start
            for _ in range(30):
                features = (flat + delta) @ model.weights.T
                slope = margin_gradient(classifier, features, labels, rivals) @ model.weights
                delta = 0.1 * delta - slope / np.linalg.norm(slope, axis=1, keepdims=True)
                delta *= (radii * (1 - 1e-9) / np.linalg.norm(delta, axis=1))[:, None]
                moved = model.encode((flat + delta).reshape(images.shape))
                lost |= classifier.predict(moved) != labels
    return lost


def test_margins_of_hidden_layers_by_ibp_are_refused_before_they_cost_anything(
    server: FakeServer, client: Client, images: NDArray[np.uint8]
) -> None:
    with pytest.raises(InvalidArgumentError, match="method: got ibp"):
        ReaasScheme(client, "fake").certify_base(images, hidden_layers(5), "ibp", target="margin")
    assert queries(server) == 0


def test_one_query_trains_and_two_test(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    scheme = ReaasScheme(client, "fake")
    assert scheme.encode_training(images).shape == (INPUTS, 8)
    scheme.certify_base(images, classifier)
    assert queries(server, phase="train", scheme="reaas") == INPUTS
    assert queries(server, phase="test", api="feature") == INPUTS
    assert queries(server, phase="test", api="f2iperturb") == INPUTS
    assert queries(server, scheme="seaas") == 0


def test_an_abstention_costs_the_same_and_certifies_nothing(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    smoothing = SmoothingConfig(sigma=50.0, n0=10, n=100)
    found = ReaasScheme(client, "fake").certify_smoothed(images, classifier, smoothing, seed=1)
    abstained = found.labels == ABSTAIN
    assert abstained.any()
    assert np.all(found.radii[abstained] == 0.0)
    assert queries(server, phase="test") == 2 * INPUTS


def test_feature_smoothing_stays_below_the_exact_radius(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    smoothing = SmoothingConfig(sigma=0.5, n=2000, alpha=1e-6)
    found = ReaasScheme(client, "fake").certify_smoothed(images, classifier, smoothing, seed=1)
    assert np.all(found.radii <= exact_radii(images, classifier, server.model))
    assert found.radii.max() > 0.0


def test_image_smoothing_stays_below_the_exact_radius_and_is_metered(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    scheme = SeaasScheme(client, "fake", sigma=0.2, seed=1)
    assert scheme.encode_training(images).shape == (INPUTS, 25, 8)
    smoothing = SmoothingConfig(sigma=0.2, n0=30, n=300, alpha=1e-6)
    found = scheme.certify_smoothed(images, classifier, smoothing)
    assert np.all(found.radii <= exact_radii(images, classifier, server.model))
    assert found.radii.max() > 0.0
    assert queries(server, phase="train", scheme="seaas") == 25 * INPUTS
    assert queries(server, phase="test", scheme="seaas") == 330 * INPUTS
    assert queries(server, scheme="reaas") == 0


@pytest.mark.parametrize(("batch_inputs", "in_flight"), [(1000, 1), (7, 3), (64, 2)])
def test_votes_do_not_depend_on_batches(
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
    batch_inputs: int,
    in_flight: int,
) -> None:
    def votes(**options: Any) -> NDArray[np.int64]:
        return SeaasScheme(client, "fake", sigma=0.2, seed=1, **options).votes(
            images, classifier, 50
        )

    assert np.array_equal(votes(), votes(batch_inputs=batch_inputs, in_flight=in_flight))


def test_progress_counts_every_query(
    client: Client, images: NDArray[np.uint8], classifier: DownstreamClassifier
) -> None:
    counted: list[int] = []
    ReaasScheme(client, "fake", batch_inputs=5).certify_base(
        images, classifier, advance=counted.append
    )
    assert counted == [5, 5, 2]


def test_an_encoder_that_changes_in_the_middle_ends_the_run(
    server: FakeServer,
    client: Client,
    images: NDArray[np.uint8],
    classifier: DownstreamClassifier,
) -> None:
    def replace_encoder(_: int) -> None:
        server.models[:] = [FakeModel(seed=5)]

    scheme = SeaasScheme(client, "fake", sigma=0.2, seed=1, batch_inputs=20, in_flight=1)
    with pytest.raises(DigestMismatchError):
        scheme.votes(images, classifier, 50, advance=replace_encoder)


def test_the_newest_version_is_pinned(client: Client, server: FakeServer) -> None:
    server.models.append(FakeModel(version="2", seed=3))
    assert pin_model(client, "fake") == server.models[1].ref
    assert pin_model(client, "fake@1") == server.models[0].ref
    with pytest.raises(ModelNotFoundError):
        pin_model(client, "other")


def test_seaas_cannot_certify_a_base_classifier(
    client: Client, images: NDArray[np.uint8], classifier: DownstreamClassifier
) -> None:
    with pytest.raises(NotApplicableError, match="weights of the whole classifier"):
        SeaasScheme(client, "fake", sigma=0.2, seed=1).certify_base(images, classifier)


def test_votes_of_another_noise_level_are_refused(
    client: Client, images: NDArray[np.uint8], classifier: DownstreamClassifier
) -> None:
    with pytest.raises(ValueError, match=r"smoothing\.sigma is 0\.3"):
        SeaasScheme(client, "fake", sigma=0.2, seed=1).certify_smoothed(
            images, classifier, SmoothingConfig(sigma=0.3)
        )
