"""The local bound of balls: its scalar, its inequality at every perturbation, its search."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas_bounds import (
    CertifiedConstants,
    Method,
    Network,
    SearchOptions,
    certified_constants,
    certify_ball,
    load_network,
)
from reaas_bounds.bounds.ball import Moves, ball_envelope, neuron_reach, ramp
from reaas_bounds.bounds.centre import Centre
from reaas_bounds.bounds.crown import relaxed
from reaas_bounds.bounds.envelope import Envelope, Local
from reaas_bounds.bounds.exclusion import jacobian
from reaas_bounds.bounds.steepness import jacobian_norm, push_forward
from reaas_bounds.graph.activation import TwoSlope
from reaas_bounds.graph.nodes import Activation, Graph
from reaas_bounds.ladder import Found, search_ladder
from reaas_bounds.norms.operator import OperatorNorms
from torch import Tensor

from tests.bounds.attack import Effort, Served, attack_balls, pgd
from tests.bounds.encoders import ENCODERS

FINE = SearchOptions(relative_tolerance=0.001)
ALPHAS = {"leaky": 0.1, "abs": -1.0, "steep": 1.5, "per channel": None}


def with_slope(network: Network, alpha: float | None) -> Network:
    """The same network with ``alpha`` below zero in place of ReLU; None: MaxMin's, 1 and -1."""

    def changed(node: Activation) -> Activation:
        below = torch.tensor(1.0 if alpha is None else alpha, dtype=torch.float64)
        if alpha is None and len(node.shape) == 3:
            below = torch.ones(node.shape[0], 1, 1, dtype=torch.float64)
            below[::2] = -1.0
        return dataclasses.replace(node, function=TwoSlope(below, "PRelu"))

    nodes = network.executed.nodes
    graph = Graph(tuple(changed(n) if isinstance(n, Activation) else n for n in nodes))
    return Network(graph, OperatorNorms())


def images(network: Network, count: int, seed: int = 0) -> Tensor:
    """Random images [count, C, h, w]."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(size=(count, *network.input_shape)))


finite = st.floats(-20, 20, allow_nan=False)


@settings(max_examples=500, deadline=None)
@given(
    finite,
    st.floats(-2, 3),
    st.floats(1e-3, 20),
    st.floats(1e-3, 100),
    st.floats(1e-3, 50),
    st.floats(-1, 1),
    finite,
)
def test_a_ramp_bounds_every_row_up_to_its_size(
    z: float, alpha: float, size: float, k: float, cap: float, share: float, s: float
) -> None:
    tensors = [torch.tensor(value, dtype=torch.float64) for value in (alpha, z, size, k, cap)]
    function = TwoSlope(tensors[0], "PRelu")
    slope, omega = (float(value) for value in ramp(function, *tensors[1:]))

    def value(at: float) -> float:
        return max(at, 0.0) + alpha * min(at, 0.0)

    assert min(alpha, 1) - 1e-12 <= slope <= max(alpha, 1) + 1e-12
    p = share * size
    for step in (s, -z, 1e-3 * s, 1e3 * s, cap, -cap):
        if abs(step) > cap:
            continue
        gained = p * (value(z + step) - value(z) - slope * step) - k * step * step
        scale = 1 + abs(p) * (abs(z) + abs(step)) + k * step * step
        assert gained <= omega * p * p + 1e-11 * scale


def attacked(network: Network, x: Tensor, radius: float) -> float:
    """The farthest that an attack moves the feature of ``x`` [1, C, h, w] within ``radius``."""
    found = pgd(network, x, torch.tensor([radius], dtype=torch.float64), steps=12)
    return float((network.forward(found.flatten(0, 1)) - network.forward(x)).norm(dim=1).max())


def of_all_images(local: Local, within: float) -> Moves:
    """How far neurons move in a ball of that size around any image."""
    return lambda index: neuron_reach(local, index) * within


def of_the_ball(local: Local, within: float) -> Moves:
    """How far they move around this one."""
    centre = Centre.of(local.network, local.values[0])
    intervals = relaxed(centre, torch.tensor([within], dtype=torch.float64)).intervals
    return lambda k: torch.maximum(intervals[k].upper.abs(), intervals[k].lower.abs())


def at(envelope: Envelope, radius: float) -> float:
    """The envelope's bound of the change within ``radius``, if that is inside its own."""
    return envelope.offset + envelope.slope * radius + envelope.curvature * radius**2


@pytest.mark.parametrize("alpha", ["relu", *ALPHAS])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_attack_exceeds_an_envelope_at_any_radius(name: str, alpha: str) -> None:
    network = load_network(ENCODERS[name](2))
    if alpha != "relu":
        network = with_slope(network, ALPHAS[alpha])
    x = images(network, 1)
    local = Local.of(network, x)
    for built, within in ((0.01, 0.02), (0.3, 0.6), (0.1, 10.0)):
        for moves in (of_all_images(local, within), of_the_ball(local, within)):
            envelope = ball_envelope(local, built, within, moves)
            for radius in (0.1 * built, built, within):
                assert attacked(network, x, radius) <= at(envelope, radius)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_envelope_of_a_small_ball_is_the_jacobian(name: str) -> None:
    network = load_network(ENCODERS[name](5))
    x = images(network, 1, seed=3)
    local = Local.of(network, x)
    norm = float(torch.linalg.matrix_norm(jacobian(network.folded, local.values).flatten(1), 2))
    bound = at(ball_envelope(local, 1e-4, 1e-4, of_all_images(local, 1e-4)), 1e-4)
    assert norm * 1e-4 <= bound <= 1.02 * norm * 1e-4
    estimate = jacobian_norm(network.folded_float32, x.float())
    assert 0.8 * norm <= estimate <= norm * (1 + 1e-5)


def test_pushing_forward_is_the_adjoint_of_pulling_back() -> None:
    network = load_network(ENCODERS["residual"](1))
    x = images(network, 2)
    values = network.folded.activations(x[:1])
    pushed = push_forward(network.folded, values, x[1:])
    rows = jacobian(network.folded, values).flatten(1)
    torch.testing.assert_close(pushed[0], rows @ x[1:].flatten())


Served_ = tuple[Network, CertifiedConstants]


@pytest.fixture(params=["strided", "residual", "dense"])
def served(request: pytest.FixtureRequest) -> Served_:
    """A small encoder with its constants."""
    network = load_network(ENCODERS[request.param](7))
    return network, certified_constants(network)


def test_local_beats_the_constant_where_the_ball_is_small(served: Served_) -> None:
    x = images(served[0], 4)
    radii = torch.full((4,), 0.02, dtype=torch.float64)
    closed = certify_ball(*served, x, radii, Method.LIPSCHITZ)
    local = certify_ball(*served, x, radii, Method.LOCAL)
    for constant, found in zip(closed, local, strict=True):
        assert found.method is Method.LOCAL
        assert found.radius >= 1.1 * constant.radius
        assert found.upper == found.radius
        assert found.converged


def test_a_larger_ball_never_gives_a_smaller_radius(served: Served_) -> None:
    radii = torch.logspace(-2, 1.5, 12, dtype=torch.float64)
    x = images(served[0], 1).expand(12, -1, -1, -1)
    for options in (SearchOptions(), FINE):
        answers = certify_ball(*served, x, radii, Method.LOCAL, options)
        for small, large in itertools.pairwise(answers):
            assert small.radius <= large.radius


def test_the_fine_level_is_never_below_the_coarse_one(served: Served_) -> None:
    radii = torch.logspace(-2, 1, 8, dtype=torch.float64)
    x = images(served[0], 8)
    coarse = certify_ball(*served, x, radii, Method.LOCAL)
    fine = certify_ball(*served, x, radii, Method.LOCAL, FINE)
    assert all(a.radius <= b.radius for a, b in zip(coarse, fine, strict=True))
    assert sum(a.steps for a in coarse) < sum(b.steps for b in fine)


def test_a_search_with_few_steps_keeps_what_it_certified(served: Served_) -> None:
    x, radii = images(served[0], 1), torch.tensor([0.05], dtype=torch.float64)
    full = certify_ball(*served, x, radii, Method.LOCAL)[0]
    closed = certify_ball(*served, x, radii, Method.LIPSCHITZ)[0]
    for steps in range(1, full.steps):
        cut = certify_ball(*served, x, radii, Method.LOCAL, SearchOptions(max_steps=steps))[0]
        assert not cut.converged
        assert cut.steps == steps
        assert closed.radius <= cut.radius
    stopped = certify_ball(*served, x, radii, Method.LOCAL, stop=lambda: True)[0]
    assert (stopped.radius, stopped.steps, stopped.converged) == (closed.radius, 0, False)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_served_features_of_no_image_inside_leave_the_ball(name: str) -> None:
    onnx = ENCODERS[name](4)
    network = load_network(onnx)
    constants = certified_constants(network)
    radii = torch.logspace(-2, 1, 8, dtype=torch.float64)
    x = images(network, 8).float().double()
    certified = torch.tensor(
        [a.radius for a in certify_ball(network, constants, x, radii)], dtype=torch.float64
    )
    verdict = attack_balls(network, Served(onnx), x, radii, certified, Effort())
    assert verdict.attacked.sum() >= 5  # the smallest are below the float32 error
    assert not verdict.beaten.any()


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=8, max_size=8),
    st.lists(st.floats(-3, 3), min_size=8, max_size=8),
    st.floats(-3, 1),
    st.floats(0, 1),
    st.floats(-4, 7),
    st.sampled_from([1, 4]),
)
def test_a_larger_question_never_finds_less_on_the_ladder(
    shapes: list[float],
    gains: list[float],
    known: float,
    more: float,
    ahead: float,
    per_octave: int,
) -> None:
    """Envelopes of any shape, not nested, of which the larger question's say more."""

    def search(gain: list[float], start: float) -> Found:
        def certify(low: float, high: float) -> float:
            place = round(4 * math.log2(low)) % 8
            return min(float(2.0 ** (start + shapes[place] + gain[place])), high)

        limit, first = 2.0 ** (start + 6), 2.0 ** (start + ahead)
        return search_ladder(certify, first, 2.0**start, limit, lambda: False, per_octave)

    smaller = search([0.0] * 8, known)
    larger = search([abs(gain) for gain in gains], known + more)
    best = max(smaller.radius, 2.0**known), max(larger.radius, 2.0 ** (known + more))
    assert best[0] <= best[1] * (1 + 1e-12)
