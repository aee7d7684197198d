"""R'/L without a query: never above what holds, whatever the rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reaas
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas._constant import radius_from_constant
from reaas._info import read_model_info
from reaas.testing import FakeModel, FakeServer

from tests.sdk.samples import make_images


@given(
    seed=st.integers(0, 10_000),
    lipschitz=st.floats(1e-2, 1e2),
    feature_radius=st.floats(1e-6, 10.0),
)
@settings(max_examples=60, deadline=None)
def test_the_worst_attack_stays_within_the_feature_radius(
    seed: int, lipschitz: float, feature_radius: float
) -> None:
    """An attack along a right singular vector reaches L r exactly; the served float32 is in it."""
    model = FakeModel(lipschitz=lipschitz, seed=seed % 7)
    info = read_model_info(model.info(latest=True))
    rng = np.random.default_rng(seed)
    clean = rng.random((3, 4, 4, 3), np.float32)
    radii = radius_from_constant(info, clean, np.full(3, feature_radius))
    worst = (rng.normal(size=(3, 8)) @ model.weights).reshape(clean.shape)
    norms = np.linalg.norm(worst.reshape(3, -1), axis=1)
    attacked = clean + worst * (radii / norms)[:, None, None, None]
    change = model.encode(attacked).astype(np.float64) - model.encode(clean)
    assert (np.linalg.norm(change, axis=1) <= feature_radius).all()
    assert (radii <= feature_radius / lipschitz).all()


def test_the_constant_agrees_with_the_service(client: Any, images: Any) -> None:
    feature_radii = np.linspace(0.01, 2.0, len(images))
    model = client.encode(images, "fake").model
    served = client.perturb(images, feature_radii, model, "lipschitz").radius
    own = client.radius_from_constant(images, feature_radii, model)
    np.testing.assert_allclose(own, served, rtol=1e-6)
    assert own.dtype == np.float64
    assert client.ledger.totals(api="f2iperturb").queries == len(images)


def test_uint8_pixels_count_as_255ths() -> None:
    info = read_model_info(FakeModel().info(latest=True))
    constants = replace(info.constants, float32_error_slope=0.01, float32_error_offset=0.001)
    noisy, white = replace(info, constants=constants), np.full((1, 4, 4, 3), 255, np.uint8)
    radii = radius_from_constant(noisy, white, np.ones(1))
    expected = (1.0 - 2 * 0.01 * np.sqrt(48) - 2 * 0.001) / (2.0 + 0.01)
    np.testing.assert_allclose(radii, expected, rtol=1e-8)
    assert radii[0] <= expected
    ones = np.ones((1, 4, 4, 3), np.float32)
    np.testing.assert_array_equal(radii, radius_from_constant(noisy, ones, np.ones(1)))


def test_a_radius_below_the_rounding_certifies_nothing() -> None:
    info = read_model_info(FakeModel().info(latest=True))
    radii = radius_from_constant(info, make_images(1), np.full(1, 1e-9))
    assert radii.tolist() == [0.0]


def test_only_the_encoders_own_shape_is_taken(client: Any, server: FakeServer) -> None:
    with pytest.raises(reaas.InvalidArgumentError, match="ask perturb instead"):
        client.radius_from_constant(np.zeros((1, 8, 8, 3), np.uint8), np.ones(1), "fake")


def test_values_that_are_not_finite_are_refused(client: Any) -> None:
    images = np.full((2, 4, 4, 3), np.inf, np.float32)
    with pytest.raises(reaas.InvalidArgumentError, match=r"inputs\[0\] .*not finite"):
        client.radius_from_constant(images, np.ones(2), "fake")


@pytest.mark.parametrize(
    "broken",
    [{"lipschitz": 0.0}, {"lipschitz": np.nan}, {"lipschitz": np.inf}, {"float32_error_slope": -1}],
)
def test_a_constant_that_certifies_everything_is_refused(broken: dict[str, Any]) -> None:
    info = read_model_info(FakeModel().info(latest=True))
    lying = replace(info, constants=replace(info.constants, **broken))
    with pytest.raises(reaas.ProtocolError):
        radius_from_constant(lying, make_images(1), np.ones(1))
