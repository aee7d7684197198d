"""The attack finds limits: never below the exact one, and close to it where that is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaas_bounds import load_network

from evaluation.bench_f2i.attack import (
    ball_starts,
    fallen,
    margin_starts,
    moved,
    pgd,
    shrink,
)
from tests.soundness.planar import Planar

POINT = np.array([0.4, 0.7])


def exact_limit(planar: Planar, level: float, high: float) -> float:
    """The radius at which the change of the feature reaches ``level``, by bisection."""
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if planar.largest_move(POINT, middle) < level else (low, middle)
    return high


@pytest.mark.parametrize("seed", range(4))
def test_the_shortest_way_out_of_a_ball(seed: int) -> None:
    planar = Planar.drawn((5, 4, 3), 0.0, seed)
    network = load_network(planar.onnx)
    x = torch.from_numpy(POINT).reshape(1, 1, 1, 2)
    level = planar.largest_move(POINT, 0.3)
    starts = ball_starts(network, x, restarts=2, seed=0)
    loss = moved(network, x.repeat(len(starts), 1, 1, 1))
    levels, guess = torch.full((1,), level), torch.full((1,), 0.05)
    found = shrink(loss, levels.double(), x, starts, guess.double(), steps=40)
    limit = exact_limit(planar, level, 1.0)
    assert limit * 0.97 <= float(found.radii) <= limit * 1.1


def test_the_shortest_way_across_a_plane_is_along_the_gradient() -> None:
    """Within one linear piece it is known: margin / ||a J||."""
    planar = Planar.drawn((5, 4, 3), 0.0, 1)
    network = load_network(planar.onnx)
    x, normal = torch.from_numpy(POINT).reshape(1, 1, 1, 2), torch.eye(3)[:1].double()
    starts = margin_starts(network, x, normal, restarts=1, seed=0)
    loss = fallen(network, x.repeat(2, 1, 1, 1), normal.repeat(2, 1))
    tiny, guess = torch.full((1,), 1e-6).double(), torch.full((1,), 1e-4).double()
    found = shrink(loss, tiny, x, starts, guess, steps=60)
    point = x.clone().requires_grad_()
    slope = torch.autograd.grad((network.forward(point) @ normal.T).sum(), point)[0].norm()
    assert float(found.radii) == pytest.approx(1e-6 / float(slope), rel=1e-3)


def test_pgd_stays_inside_and_reaches_nearly_the_largest_change() -> None:
    planar = Planar.drawn((5, 4, 3), 0.0, 2)
    network = load_network(planar.onnx)
    x = torch.from_numpy(POINT).reshape(1, 1, 1, 2).repeat(3, 1, 1, 1)
    radii = torch.tensor([0.01, 0.2, 1.0], dtype=torch.float64)
    images = pgd(network, x, radii, steps=30, restarts=3)
    assert bool(((images - x).flatten(2).norm(dim=2) <= radii).all())
    change = (network.forward(images.flatten(0, 1)) - network.forward(x[:1])).norm(dim=1)
    best = change.reshape(len(images), 3).amax(0)
    for radius, reached in zip(radii.tolist(), best.tolist(), strict=True):
        exact = planar.largest_move(POINT, radius)
        assert 0.9 * exact <= reached <= exact
