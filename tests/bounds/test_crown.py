"""CROWN against a dense reference, attacks and auto_LiRPA; the parts that make it fast."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from reaas_bounds import Method, Network, SearchOptions, certified_constants, certify_ball
from reaas_bounds import load_network as load
from reaas_bounds.bounds import Centre, crown_bound, crown_joint_bound, ibp_bound
from reaas_bounds.bounds.crown import crown
from reaas_bounds.bounds.exclusion import jacobian
from reaas_bounds.bounds.linearisation import Linearisation
from reaas_bounds.bounds.row_hidden import neuron_constants
from reaas_bounds.bounds.row_interval import crown_rows
from reaas_bounds.graph import Affine
from reaas_bounds.graph.maps import Convolution, materialize
from reaas_bounds.graph.patches import pull_patches, spread_out, unit_patches
from reaas_bounds.graph.transposed import transposed_convolution
from torch import Tensor
from torch.nn import functional

from tests.bounds.attack import pgd
from tests.bounds.encoders import ENCODERS

CHAINS = ["strided", "asymmetric", "grouped", "dense"]
RADII = (0.003, 0.03, 0.2, 1.0)
BOUNDS = [crown_bound, crown_joint_bound]
CROWNS = [Method.CROWN, Method.CROWN_JOINT]


def image(network: Network, seed: int = 0, count: int = 1) -> Tensor:
    """Random images in [0, 1]."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(size=(count, *network.input_shape)))


def change(network: Network, x: Tensor, moved: Tensor) -> Tensor:
    """``||f(x') - f(x)||_2`` [n]."""
    norms: Tensor = (network.forward(moved) - network.forward(x)).norm(dim=1)
    return norms


def layers(network: Network, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Of a chain of affine maps and ReLUs: matrix [o, i] of each map, and its value [o] at x."""
    nodes, values = network.folded.nodes, network.folded.activations(x)
    return [
        (materialize(node.linear).weight, value.flatten())
        for node, value in zip(nodes, values, strict=True)
        if isinstance(node, Affine)
    ]


def reference(network: Network, x: Tensor, radius: float) -> float:
    """The paper's bound, written down plainly: a dense matrix for every layer, both signs."""
    chain = layers(network, x)
    lines: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for depth, (matrix, at) in enumerate(chain):
        ends = []
        for sign in (1.0, -1.0):
            rows, offset = sign * matrix, torch.zeros(len(matrix), dtype=torch.float64)
            for below in range(depth - 1, -1, -1):
                slope, more, low, high = lines[below]
                offset = offset + rows.clamp_min(0) @ low + rows.clamp_max(0) @ high
                rows = (rows.clamp_min(0) * slope + rows.clamp_max(0) * more) @ chain[below][0]
            ends.append(sign * (offset - radius * rows.norm(dim=1)))
        lower, upper = ends
        if depth == len(chain) - 1:
            return float(torch.maximum(lower.abs(), upper.abs()).norm())
        lines.append(relu_lines(at, at + lower, at + upper))
    raise AssertionError("no layer")


def relu_lines(z: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slopes below and above, offsets below and above, of the change of a ReLU."""
    unstable, active = (low < 0) & (high > 0), low >= 0
    chord = torch.where(unstable, high / (high - low), active.double())
    slope = torch.where(unstable, (high > -low).double(), active.double())
    zero = torch.zeros_like(z)
    below = torch.where(unstable, slope * z - torch.relu(z), zero)
    above = torch.where(unstable, chord * (z - low) - torch.relu(z), zero)
    return slope, chord, below, above


@pytest.mark.parametrize("name", CHAINS)
def test_crown_is_the_papers_bound_or_below(name: str) -> None:
    network = load(ENCODERS[name](3))
    x = image(network)
    centre = Centre.of(network, x)
    for radius in RADII:
        found = float(crown_bound(centre, torch.tensor([radius], dtype=torch.float64)))
        expected = reference(network, x, radius)
        assert found <= expected * (1 + 1e-7)
        if radius < 0.01:  # where no other bound of hidden neurons is better
            assert found == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("bound", BOUNDS)
def test_no_attack_beats_a_bound(name: str, bound: Callable[[Centre, Tensor], Tensor]) -> None:
    network = load(ENCODERS[name](5))
    x = image(network, count=3)
    centre = Centre.of(network, x)
    for radius in RADII:
        radii = torch.full((3,), radius, dtype=torch.float64)
        limit = bound(centre, radii)
        assert bool((limit <= ibp_bound(centre, radii) * (1 + 1e-8)).all())
        for found in pgd(network, x, radii, steps=10):
            assert bool((change(network, x, found) <= limit).all())


@pytest.mark.parametrize("name", ENCODERS)
def test_a_bound_made_for_one_radius_holds_for_smaller_ones(name: str) -> None:
    network = load(ENCODERS[name](1))
    x = image(network)
    centre = Centre.of(network, x)
    made = crown(centre, Linearisation.of(centre), torch.tensor([0.5], dtype=torch.float64))
    values = []
    for radius in (0.5, 0.3, 0.1, 0.0):
        radii = torch.tensor([radius], dtype=torch.float64)
        values.append(float(made.at(radii)))
        if radius > 0:
            for found in pgd(network, x, radii, steps=5):
                assert float(change(network, x, found)) <= values[-1]
    assert all(large >= small for large, small in itertools.pairwise(values))


@pytest.mark.parametrize("name", ["strided", "residual"])
def test_rows_made_for_one_radius_hold_for_smaller_ones(name: str) -> None:
    network = load(ENCODERS[name](1))
    x, generator = image(network), torch.Generator().manual_seed(0)
    rows = torch.randn(3, network.feature_dim, dtype=torch.float64, generator=generator)
    made = crown_rows(Centre.of(network, x), rows, 0.5)
    for radius in (0.5, 0.3, 0.1):
        for found in pgd(network, x, torch.tensor([radius], dtype=torch.float64), steps=5):
            moved = rows @ (network.forward(found) - network.forward(x))[0]
            assert bool((moved <= made.at(radius)).all())


@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_neurons_move_no_further_than_their_constants(name: str) -> None:
    network = load(ENCODERS[name](4))
    x = image(network, count=8)
    for y in (image(network, seed=1, count=8), x + 1e-3 * (image(network, seed=2, count=8) - x)):
        distance = (y - x).flatten(1).norm(dim=1)
        values = zip(network.folded.activations(x), network.folded.activations(y), strict=True)
        for index, (a, b) in enumerate(values):
            if isinstance(network.folded.nodes[index], Affine):
                farthest = ((b - a).abs() / distance.view(-1, *(1 for _ in a.shape[1:]))).amax(0)
                assert bool((farthest <= neuron_constants(network, index)).all())


@pytest.mark.parametrize("name", ["strided", "residual", "dense"])
@pytest.mark.parametrize("method", CROWNS)
def test_the_searched_radius_is_certified_and_tight(name: str, method: Method) -> None:
    network = load(ENCODERS[name](2))
    constants = certified_constants(network)
    x, goal = image(network), torch.tensor([0.3], dtype=torch.float64)
    answer = certify_ball(network, constants, x, goal, method)[0]
    assert answer.method is method
    assert answer.converged
    assert 0 < answer.radius < answer.upper <= answer.radius * 1.0101
    bound = BOUNDS[CROWNS.index(method)]
    centre = Centre.of(network, x)
    assert float(bound(centre, torch.tensor([answer.radius], dtype=torch.float64))) <= 0.3
    assert float(bound(centre, torch.tensor([answer.upper], dtype=torch.float64))) > 0.29


@pytest.mark.parametrize("method", CROWNS)
def test_a_search_that_is_cut_short_is_still_certified(method: Method) -> None:
    network = load(ENCODERS["strided"](2))
    constants = certified_constants(network)
    x, goal = image(network), torch.tensor([0.3], dtype=torch.float64)
    full = certify_ball(network, constants, x, goal, method)[0]
    stopped = certify_ball(network, constants, x, goal, method, stop=lambda: True)[0]
    assert (stopped.radius, stopped.steps, stopped.converged) == (0.0, 0, False)
    for steps in (1, 2):
        options = SearchOptions(max_steps=steps, relative_tolerance=1e-6)
        short = certify_ball(network, constants, x, goal, method, options)[0]
        assert short.steps <= steps
        assert not short.converged
        assert short.radius <= full.upper


def test_joint_beats_single_coordinates_near_the_image() -> None:
    """There it is ||J||_2 r against ||J||_F r."""
    for name in ("strided", "residual"):
        network = load(ENCODERS[name](2))
        centre = Centre.of(network, image(network))
        radius = torch.tensor([1e-3], dtype=torch.float64)
        rows = Linearisation.of(centre).features.image
        joint = float(crown_joint_bound(centre, radius))
        assert joint == pytest.approx(float(torch.linalg.matrix_norm(rows, 2)) * 1e-3, rel=0.3)
        assert joint < float(crown_bound(centre, radius))


@pytest.mark.parametrize(("kernel", "stride"), [(4, (2, 2)), (3, (1, 1)), (3, (2, 3)), (1, (2, 2))])
def test_transposed_convolution_is_torchs(kernel: int, stride: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(kernel)
    rows = torch.randn(5, 6, 3, 4, dtype=torch.float64, generator=generator)
    weight = torch.randn(6, 2, kernel, kernel, dtype=torch.float64, generator=generator)
    expected = functional.conv_transpose2d(rows, weight, stride=stride)
    torch.testing.assert_close(transposed_convolution(rows, weight, stride), expected)


@pytest.mark.parametrize("name", ["strided", "asymmetric", "grouped", "residual"])
def test_rows_in_patches_are_the_rows(name: str) -> None:
    network = load(ENCODERS[name](0))
    for node in network.folded.nodes:
        if isinstance(node, Affine) and isinstance(node.linear, Convolution):
            size = int(np.prod(node.shape))
            rows, patches = unit_patches(torch.arange(size), node.shape, torch.float64)
            found = spread_out(*pull_patches(node.linear, rows, patches))
            expected = node.linear.adjoint(spread_out(rows, patches))
            torch.testing.assert_close(found, expected)


def test_the_linearisation_is_the_jacobian() -> None:
    for name in ENCODERS:
        network = load(ENCODERS[name](0))
        x = image(network)
        rows = Linearisation.of(Centre.of(network, x)).features.image
        expected = jacobian(network.folded, network.folded.activations(x))
        torch.testing.assert_close(rows.T, expected.flatten(1))


def test_crown_is_that_of_auto_lirpa() -> None:
    lirpa = pytest.importorskip("auto_LiRPA", reason="auto_LiRPA is not installed")
    perturbations = pytest.importorskip("auto_LiRPA.perturbations")
    network = load(ENCODERS["dense"](3))
    x = image(network)
    modules: list[torch.nn.Module] = [torch.nn.Flatten()]
    biases = (node.bias for node in network.folded.nodes if isinstance(node, Affine))
    for (matrix, _), bias in zip(layers(network, x), biases, strict=True):
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0]).double()
        linear.weight.data, linear.bias.data = matrix, bias.flatten().expand(len(matrix)).clone()
        modules += [linear, torch.nn.ReLU()]
    twin = torch.nn.Sequential(*modules[:-1])
    bounded = lirpa.BoundedModule(twin, x)
    for radius in RADII:
        ball = lirpa.BoundedTensor(x, perturbations.PerturbationLpNorm(norm=2, eps=radius))
        lower, upper = bounded.compute_bounds(x=(ball,), method="CROWN")
        feature = network.forward(x)
        theirs = torch.maximum((lower - feature).abs(), (upper - feature).abs()).norm().detach()
        radii = torch.tensor([radius], dtype=torch.float64)
        assert float(crown_bound(Centre.of(network, x), radii)) <= float(theirs) * 1.001
