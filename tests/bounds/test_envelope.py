"""The quadratic envelope: its scalar, its inequality at every perturbation, its tightness."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas_bounds import Network, load_network
from reaas_bounds.bounds.activation_beta import relu_beta
from reaas_bounds.bounds.envelope import Envelope, Local, Multipliers, quadratic_envelope
from reaas_bounds.bounds.multipliers import search_multipliers
from reaas_bounds.bounds.row_constant import reach, row_constants
from reaas_bounds.graph.nodes import Activation
from torch import Tensor

from tests.bounds.encoders import ENCODERS, EncoderBuilder

finite = st.floats(-20, 20, allow_nan=False)


def gain(p: float, g: float, z: float, k: float, s: float) -> float:
    """What beta is the largest value of, over s."""
    return p * (max(z + s, 0) - max(z, 0) - g * s) - k * s * s


@settings(max_examples=500, deadline=None)
@given(finite, st.floats(0, 1), finite, st.floats(1e-3, 100))
def test_beta_is_the_largest_gain(p: float, g: float, z: float, k: float) -> None:
    """It is attained at the kink, where a piece's parabola peaks, or at 0."""
    stationary = (-z, p * (1 - g) / (2 * k), -p * g / (2 * k), 0.0)
    largest = max(gain(p, g, z, k, s) for s in stationary)
    tensors = (torch.tensor(v, dtype=torch.float64) for v in (p, g, z, k))
    found = float(relu_beta(*tensors))
    scale = 1 + p * p / k + abs(p * z)
    assert abs(found - largest) <= 1e-12 * scale
    for s in np.linspace(-50, 50, 101):
        assert gain(p, g, z, k, float(s)) <= found + 1e-12 * scale


def multipliers_of(network: Network, random: np.random.Generator) -> Multipliers:
    """Any slopes, any curvatures."""
    slopes, curvatures = {}, {}
    for index, node in enumerate(network.folded.nodes):
        if isinstance(node, Activation):
            slopes[index] = torch.from_numpy(random.uniform(size=(1, *node.shape)))
            curvatures[index] = torch.tensor(10 ** random.uniform(-3, 1), dtype=torch.float64)
    return Multipliers(slopes, curvatures)


def searched(network: Network, x: Tensor, row: Tensor, radius: float) -> Envelope:
    """The envelope as the engine builds it."""
    local = Local.of(network, x)
    values = [value.float() for value in local.values]
    graph = network.folded_float32
    chosen = search_multipliers(graph, values, row.float(), local.reach, radius, 4)
    return quadratic_envelope(local, row, chosen)


def image_and_row(network: Network, seed: int) -> tuple[Tensor, Tensor]:
    """A random image [1, C, h, w] and a random direction [1, d] of the feature."""
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.uniform(size=(1, *network.input_shape)))
    return x, torch.from_numpy(random.normal(size=(1, network.feature_dim)))


@pytest.mark.parametrize("name", ENCODERS)
def test_no_perturbation_exceeds_an_envelope_of_any_multipliers(name: str) -> None:
    """Adversarial ascent on the gap itself, from random perturbations of every size."""
    random = np.random.default_rng(3)
    network = load_network(ENCODERS[name](2))
    for trial in range(6):
        x, row = image_and_row(network, trial)
        if trial % 2:
            envelope = quadratic_envelope(
                Local.of(network, x), row, multipliers_of(network, random)
            )
        else:
            envelope = searched(network, x, row, radius=10 ** random.uniform(-2, 0.5))
        start = random.normal(size=(12, *network.input_shape))
        sizes = np.logspace(-3, 1.5, 12)[:, None, None, None]
        delta = torch.from_numpy(start / np.linalg.norm(start.reshape(12, -1)) * sizes)
        for _ in range(15):
            delta.requires_grad_()
            length = delta.flatten(1).norm(dim=1)
            value = ((network.forward(x + delta) - network.forward(x)) * row).sum(1)
            bound = envelope.offset + envelope.slope * length + envelope.curvature * length**2
            assert bool((value <= bound).all())
            ascent = torch.autograd.grad((value - bound).sum(), delta)[0]
            size = ascent.flatten(1).norm(dim=1).clamp_min(1e-12)
            delta = delta.detach() + (length.detach() / size * 0.5)[:, None, None, None] * ascent


@pytest.mark.parametrize("name", ENCODERS)
def test_no_two_images_exceed_a_row_constant(name: str) -> None:
    network = load_network(ENCODERS[name](4))
    x, row = image_and_row(network, 0)
    constant = float(row_constants(network, row))
    assert constant <= reach(network)[-1] * float(row.norm())
    at = x.clone().requires_grad_()
    gradient = torch.autograd.grad((network.forward(at) * row).sum(), at)[0]
    for size in (1e-3, 0.1, 1.0, 10.0):
        delta = gradient / gradient.norm() * size
        moved = float(((network.forward(x + delta) - network.forward(x)) * row).sum())
        assert moved <= constant * size


def test_the_search_beats_the_row_constant_of_a_curved_network() -> None:
    """Near an image only some neurons can switch, which no global constant knows."""
    network = load_network(ENCODERS["strided"](0))
    x, row = image_and_row(network, 1)
    constant = float(row_constants(network, row))
    envelope = searched(network, x, row, radius=0.05)
    assert envelope.offset + envelope.slope * 0.05 + envelope.curvature * 0.05**2 < 0.9 * (
        constant * 0.05
    )


def test_without_relus_the_envelope_is_the_row_itself() -> None:
    builder = EncoderBuilder((1, 3, 4), seed=2).op("Flatten").linear(12, 5)
    network = load_network(builder.linear(5, 3).file(3))
    x, row = image_and_row(network, 0)
    at = x.clone().requires_grad_()
    exact = float(torch.autograd.grad((network.forward(at) * row).sum(), at)[0].norm())
    envelope = searched(network, x, row, radius=1.0)
    assert exact <= envelope.slope <= exact * (1 + 1e-8)
    assert (envelope.offset, envelope.curvature) == (0.0, 0.0)


def test_the_radius_of_an_envelope_is_where_it_meets_the_margin() -> None:
    envelope = Envelope(offset=0.2, slope=1.5, curvature=0.7)
    radius = envelope.radius(3.0)
    assert math.isclose(0.2 + 1.5 * radius + 0.7 * radius**2, 3.0, rel_tol=1e-9)
    assert 0.2 + 1.5 * radius + 0.7 * radius**2 < 3.0
    assert envelope.radius(0.2) == envelope.radius(-1.0) == envelope.radius(math.nan) == 0.0
    for broken in (math.nan, math.inf):
        assert Envelope(broken, 1.0, 1.0).radius(1.0) == 0.0
        assert Envelope(0.0, broken, 1.0).radius(1.0) == 0.0
        assert Envelope(0.0, 1.0, broken).radius(1.0) == 0.0
