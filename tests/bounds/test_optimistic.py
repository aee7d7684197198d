"""What decides where CROWN is worth an evaluation: it must not rule out what CROWN certifies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaas_bounds import Network, load_network
from reaas_bounds.bounds.centre import Centre
from reaas_bounds.bounds.crown import crown_bound
from reaas_bounds.bounds.crown_joint import crown_joint_bound
from reaas_bounds.bounds.optimistic import Optimistic
from reaas_bounds.bounds.row_interval import crown_rows
from torch import Tensor

from tests.bounds.encoders import ENCODERS

RADII = (1e-3, 0.03, 0.3, 2.0)


def image_of(network: Network, seed: int) -> Tensor:
    """A random image [1, C, h, w]."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(size=(1, *network.input_shape)))


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", ENCODERS)
def test_it_is_below_crown_and_not_by_much(name: str, radius: float) -> None:
    network = load_network(ENCODERS[name](6))
    x, at = image_of(network, 1), torch.tensor([radius], dtype=torch.float64)
    found, centre = Optimistic.of(network, x), Centre.of(network, x)
    rows = torch.randn(5, network.feature_dim, generator=torch.Generator().manual_seed(2)).double()
    crown, joint = float(crown_bound(centre, at)), float(crown_joint_bound(centre, at))
    moved = crown_rows(centre, rows, radius).at(radius)
    least = 0.3 if radius < 0.1 else 0.1
    assert least * crown <= found.single(radius, torch.inf) <= crown
    assert least * joint <= found.joint(radius, torch.inf) <= joint
    assert bool((found.rows(rows, radius) <= moved).all())


@pytest.mark.parametrize("name", ENCODERS)
def test_some_coordinates_are_enough(name: str) -> None:
    network = load_network(ENCODERS[name](6))
    found = Optimistic.of(network, image_of(network, 3))
    for evaluate in (found.single, found.joint):
        whole = evaluate(0.2, torch.inf)
        for share in (0.1, 0.9):
            assert share * whole < evaluate(0.2, share * whole) <= whole
        assert evaluate(0.2, 2 * whole) == whole


def test_it_is_the_same_for_the_same_image() -> None:
    network = load_network(ENCODERS["residual"](6))
    x = image_of(network, 0)
    first, again = (Optimistic.of(network, x).joint(0.3, torch.inf) for _ in range(2))
    assert first == again
