"""Features divided by their length: what may move before the division, and attacks after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaas_bounds import (
    MarginMethod,
    Method,
    Network,
    UnsupportedOperatorError,
    certified_constants,
    certify_ball,
    certify_margins,
    load_network,
)
from reaas_bounds.normalisation import radii_before
from torch import nn
from torch.nn import functional

from tests.bounds import exported
from tests.bounds.attack import Effort, Served, attack_balls, attack_margins
from tests.bounds.encoders import EncoderBuilder, Float32

DIM = 5


def encoder(*, dynamo: bool = False) -> bytes:
    """A convolution, a matrix, and the division as torch exports it."""
    torch.manual_seed(3)
    parts = (nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(36, DIM))
    divided = exported.Function(lambda z: functional.normalize(z, dim=1))
    return exported.exported(nn.Sequential(*parts, divided), (3, 8, 8), dynamo=dynamo)


@pytest.fixture(scope="module")
def onnx() -> bytes:
    """One file for all tests."""
    return encoder()


@pytest.fixture(scope="module")
def network(onnx: bytes) -> Network:
    """The same, read."""
    return load_network(onnx)


def images(count: int) -> torch.Tensor:
    """Random float32 images."""
    pixels = np.random.default_rng(0).uniform(size=(count, 3, 8, 8)).astype(np.float32)
    return torch.from_numpy(pixels.astype(np.float64))


@pytest.mark.parametrize("dynamo", [False, True])
def test_the_feature_is_that_of_onnx_runtime(dynamo: bool) -> None:
    data = encoder(dynamo=dynamo)
    network, x = load_network(data), images(20)
    assert network.least_length == pytest.approx(1e-12)
    np.testing.assert_allclose(network.forward(x).numpy(), Float32(data)(x.numpy()), atol=1e-5)
    assert bool((network.forward(x).norm(dim=1) - 1).abs().max() < 1e-12)


def test_the_published_constant_is_true_and_useless(network: Network) -> None:
    constants = certified_constants(network)
    assert constants.before is not None
    assert constants.lipschitz > 1e11 * constants.before.lipschitz
    assert (constants.float32_slope, constants.float32_offset) == (0.0, 2.01)
    x, radii = images(1), torch.ones(1, dtype=torch.float64)
    assert certify_ball(network, constants, x, radii, Method.LIPSCHITZ)[0].radius > 1e-3


def test_the_ball_before_the_division_is_the_largest(network: Network) -> None:
    """At its border lies a point whose direction is turned as far as R' allows."""
    x = images(1)
    z = network.before.forward(x)[0]
    across = torch.randn(DIM, dtype=torch.float64)
    across = functional.normalize(across - (across @ z) / (z @ z) * z, dim=0)
    for radius in (0.01, 0.3, 1.0, 1.41):
        moved = float(radii_before(network, x, torch.tensor([radius], dtype=torch.float64)))
        tangent = z * (1 - moved**2 / float(z @ z))  # foot of the tangent to the ball
        touching = tangent + across * moved * (1 - moved**2 / float(z @ z)) ** 0.5
        assert float((touching - z).norm()) == pytest.approx(moved)
        turned = functional.normalize(touching, dim=0) - functional.normalize(z, dim=0)
        assert radius * 0.99 - 1e-4 <= float(turned.norm()) <= radius


def test_random_moves_within_the_ball_stay_within_the_feature_radius(network: Network) -> None:
    x, random = images(50), torch.Generator().manual_seed(1)
    z = network.before.forward(x)
    for radius in (0.0, 0.05, 0.7, 1.4, 1.9, 5.0):
        moved = radii_before(network, x, torch.full((50,), radius, dtype=torch.float64))
        delta = torch.randn(400, 50, DIM, dtype=torch.float64, generator=random)
        delta = functional.normalize(delta, dim=2) * moved[:, None]
        turned = functional.normalize(z + delta, dim=2) - functional.normalize(z, dim=1)
        assert float(turned.norm(dim=2).max()) <= radius


@pytest.mark.parametrize("method", [Method.LIPSCHITZ, Method.LOCAL, Method.CROWN])
def test_no_attack_beats_a_ball(onnx: bytes, network: Network, method: Method) -> None:
    x = images(6)
    radii = torch.tensor([0.02, 0.1, 0.4, 0.9, 1.3, 1.8], dtype=torch.float64)
    found = certify_ball(network, certified_constants(network), x, radii, method)
    certified = torch.tensor([answer.radius for answer in found], dtype=torch.float64)
    verdict = attack_balls(network, Served(onnx), x, radii, certified, Effort(30, 2))
    assert not verdict.beaten.any()
    assert verdict.attacked.all()


@pytest.mark.parametrize("method", [MarginMethod.LIPSCHITZ, MarginMethod.AUTO])
def test_no_attack_beats_margins(onnx: bytes, network: Network, method: MarginMethod) -> None:
    x, random = images(8), torch.Generator().manual_seed(2)
    normals = torch.randn(8, 3, DIM, dtype=torch.float64, generator=random)
    sizes = normals.norm(dim=2)
    share = torch.rand(8, 3, dtype=torch.float64, generator=random)
    offsets = sizes * (0.02 + 0.5 * share)
    constants = certified_constants(network)
    found = certify_margins(network, constants, x, normals, offsets, method)
    certified = torch.tensor([answer.radius for answer in found], dtype=torch.float64)
    verdict = attack_margins(network, Served(onnx), x, normals, offsets, certified, Effort(30, 2))
    assert not verdict.beaten.any()
    assert verdict.attacked.all()
    assert all(answer.margin_set == 0 for answer in found)


def test_margins_that_no_unit_vector_crosses_limit_nothing(network: Network) -> None:
    x, normals = images(1), torch.ones(1, 1, DIM, dtype=torch.float64)
    offsets = torch.full((1, 1), 2 * DIM**0.5 + 0.01, dtype=torch.float64)
    answer = certify_margins(network, certified_constants(network), x, normals, offsets)[0]
    assert answer.row is None  # the ball, within which that was shown


def test_a_division_elsewhere_or_without_limit_is_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"as torch\.nn\.functional"):
        load_network(EncoderBuilder().op("Flatten").op("LpNormalization", axis=1).file(192))
    plain = EncoderBuilder().op("Flatten")
    z = plain.last
    plain.op("ReduceL2", axes=[1])
    plain._append("Div", [z, plain.last], {})
    with pytest.raises(UnsupportedOperatorError, match="with a lower limit"):
        load_network(plain.file(192))
    inside = nn.Sequential(
        nn.Flatten(), exported.Function(lambda z: functional.normalize(z)), nn.Linear(192, 4)
    )
    with pytest.raises(UnsupportedOperatorError, match="Gemm of a normalised vector"):
        load_network(exported.exported(inside, (3, 8, 8)))
