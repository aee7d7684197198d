"""Large images are asked about as what the resize leaves of them: the same radii, and sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaas_bounds import (
    MarginMethod,
    MarginOptions,
    Method,
    Network,
    ReplicateChannels,
    SearchOptions,
    SeparableResize,
    certified_constants,
    certify_ball,
    certify_margins,
    condensed,
    load_network,
)
from reaas_runtime import resize_matrix

from tests.support.models import SIZE, conv_encoder

SIZES = [(9, 8), (11, 17), (24, 24), (64, 40)]
OPTIONS = SearchOptions(max_steps=8)


def sized(height: int, width: int, *, grey: bool = False, divided: bool = False) -> Network:
    network = load_network(conv_encoder(scale=2.0, channels=(3, 4)))
    if divided:
        network = Network(network.executed, network.norms, least_length=1e-6)
    resize = SeparableResize(resize_matrix(height, SIZE), resize_matrix(width, SIZE))
    return network.with_input([resize, ReplicateChannels(3)] if grey else [resize])


def image(network: Network) -> torch.Tensor:
    return torch.rand(1, *network.input_shape, generator=torch.manual_seed(1)).double()


@pytest.mark.parametrize("size", SIZES)
def test_no_change_is_left_out(size: tuple[int, int]) -> None:
    """R R^T <= M M^T, and hardly more: what the theorem needs, and that it costs nothing."""
    small = condensed(sized(*size))
    assert small is not None
    for matrix, factor in (
        (small.resize.rows, small.rows.numpy()),
        (small.resize.cols, small.cols.numpy()),
    ):
        excess = np.linalg.eigvalsh(factor @ factor.T - matrix @ matrix.T)
        assert excess.min() > 0
        assert excess.max() < 1e-8


@pytest.mark.parametrize("size", SIZES)
def test_the_small_image_stands_for_the_large_one(size: tuple[int, int]) -> None:
    network = sized(*size)
    small, x = condensed(network), image(network)
    assert small is not None
    y, loss = small.at(x)
    assert y.shape == (1, 3, SIZE, SIZE)
    off = float((small.network.forward(y) - network.forward(x)).norm())
    assert off <= float(loss) / 2
    assert float(loss) < 1e-6


@pytest.mark.parametrize(
    ("method", "grey"),
    [
        (Method.IBP, True),
        (Method.LOCAL, False),
        (Method.CROWN, False),
        (Method.CROWN, True),
        (Method.CROWN_JOINT, False),
    ],
)
def test_balls_are_the_same(method: Method, grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    network = sized(24, 17, grey=grey)
    x, radius = image(network), torch.tensor([0.5], dtype=torch.float64)
    constants = certified_constants(network)
    (found,) = certify_ball(network, constants, x, radius, method, OPTIONS)
    monkeypatch.setattr("reaas_bounds.pairs.condensed", lambda network: None)
    (direct,) = certify_ball(network, constants, x, radius, method, OPTIONS)
    assert found.radius == pytest.approx(direct.radius, rel=2e-2)
    assert found.radius > 0


@pytest.mark.parametrize(
    ("method", "divided"),
    [
        (MarginMethod.LIPSCHITZ, False),
        (MarginMethod.ENVELOPE, False),
        (MarginMethod.CROWN, False),
        (MarginMethod.IBP, True),
        (MarginMethod.CROWN, True),
    ],
)
def test_margins_are_the_same(
    method: MarginMethod, divided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = sized(19, 30, divided=divided)
    x, constants = image(network), certified_constants(network)
    normals = torch.randn(1, 3, network.feature_dim, generator=torch.manual_seed(2)).double()
    offsets, within = torch.full((1, 1, 3), 0.3).double(), torch.full((1, 1), 0.4).double()
    arguments = (
        network,
        constants,
        x,
        normals[:, None],
        offsets,
        method,
        MarginOptions(max_envelopes=8),
    )
    (found,) = certify_margins(*arguments, valid_within=within)
    monkeypatch.setattr("reaas_bounds.margin_set.condensed", lambda network: None)
    monkeypatch.setattr("reaas_bounds.pairs.condensed", lambda network: None)
    (direct,) = certify_margins(*arguments, valid_within=within)
    assert found.radius == pytest.approx(direct.radius, rel=2e-2)


@pytest.mark.parametrize("size", SIZES[2:])
def test_no_attack_on_the_large_image_leaves_the_ball(size: tuple[int, int]) -> None:
    network = sized(*size)
    x, allowed = image(network), 0.3
    radius = torch.tensor([allowed], dtype=torch.float64)
    (found,) = certify_ball(network, certified_constants(network), x, radius, Method.AUTO, OPTIONS)
    assert found.radius > 0
    clean = network.forward(x)
    moved = x + 1e-3 * torch.randn(x.shape, generator=torch.manual_seed(3)).double()
    for _ in range(100):
        moved.requires_grad_()
        (slope,) = torch.autograd.grad((network.forward(moved) - clean).norm(), moved)
        with torch.no_grad():
            step = moved + 0.2 * found.radius * slope / slope.norm() - x
            moved = x + step * min(1.0, found.radius / float(step.norm()))
    assert float((network.forward(moved) - clean).norm()) <= allowed


def test_small_images_and_own_size_stay_as_they_are() -> None:
    assert condensed(load_network(conv_encoder())) is None
    assert condensed(sized(5, 5)) is None
    assert condensed(sized(5, 40)) is None
