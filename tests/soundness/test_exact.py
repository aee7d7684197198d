"""Certified radii against the exact answer, where it can be had: two pixels, every pattern."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaas_bounds import MarginMethod, Method, certified_constants, load_network

from tests.soundness.audit import Questions, ball_radii, margin_radii
from tests.soundness.planar import Planar

NETWORKS = [((5, 2), 0.0, 0), ((4, 3, 2), 0.0, 1), ((3, 4, 3), 0.25, 2), ((4, 3, 2), -1.0, 3)]
IMAGES = 3
# Rounding of the oracle, relative to the size of its numbers.
ROUNDING = 1e-12


@pytest.fixture(scope="module", params=NETWORKS, ids=str)
def network(request: pytest.FixtureRequest) -> Planar:
    return Planar.drawn(*request.param)


@pytest.fixture(scope="module")
def asked(network: Planar) -> Questions:
    constants = certified_constants(network.onnx)
    scales = (0.02, 0.2, 1.0)
    return Questions.drawn(load_network(network.onnx), constants.lipschitz, IMAGES, 0, scales)


def test_the_oracle_is_what_a_fine_grid_approaches(network: Planar) -> None:
    angles = np.linspace(0, 2 * np.pi, 2001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)  # [2001, 2]
    x, normals = np.array([0.4, 0.7]), np.eye(network.weights[-1].shape[0])
    for radius in (0.05, 0.5, 2.0):
        disc = np.concatenate([share * radius * circle for share in np.linspace(0, 1, 201)])
        moved = network.forward(x + disc) - network.forward(x[None])
        sampled = float(np.linalg.norm(moved, axis=1).max())
        exact = network.largest_move(x, radius)
        assert sampled * (1 - ROUNDING) <= exact <= sampled * 1.01
        lowest = float(moved.min())
        found = network.smallest_margin(x, radius, normals, np.zeros(len(normals)))
        assert lowest * 1.01 <= found <= lowest * (1 - ROUNDING)


@pytest.mark.parametrize("method", Method)
def test_no_ball_is_left_within_its_radius(
    network: Planar, asked: Questions, method: Method
) -> None:
    model = load_network(network.onnx)
    radii = ball_radii(model, certified_constants(model), asked, method)
    shares = []
    for x, limit, radius in zip(asked.x, asked.feature_radii, radii.tolist(), strict=True):
        if radius == 0:
            continue
        moved = network.largest_move(x.numpy().reshape(2), radius)
        assert moved <= float(limit) * (1 + ROUNDING)
        shares.append(moved / float(limit))
    assert max(shares) > 0.05  # a radius of 0 would pass, too


@pytest.mark.parametrize("method", MarginMethod)
def test_no_margin_is_crossed_within_its_radius(
    network: Planar, asked: Questions, method: MarginMethod
) -> None:
    model = load_network(network.onnx)
    radii = margin_radii(model, certified_constants(model), asked, method)
    used = []
    for x, rows, margins, radius in zip(
        asked.x, asked.normals, asked.offsets, radii.tolist(), strict=True
    ):
        if radius == 0:
            continue
        target = rows.numpy(), margins.numpy()
        left = network.smallest_margin(x.numpy().reshape(2), radius, *target)
        assert left >= -ROUNDING * float(margins.max())
        used.append(1 - left / float(margins.min()))
    assert max(used) > 0.05


def test_a_constant_covers_every_pattern(network: Planar) -> None:
    exact = max(float(np.linalg.norm(jacobian, 2)) for jacobian, _ in network.pieces)
    assert exact <= certified_constants(network.onnx).lipschitz


def test_a_radius_beyond_the_exact_limit_would_be_noticed(network: Planar) -> None:
    """The oracle grows strictly: a few percent more radius is a few percent more change."""
    x = torch.full((2,), 0.5, dtype=torch.float64).numpy()
    assert network.largest_move(x, 1.05) > 1.01 * network.largest_move(x, 1.0)
