"""Each bound against exact oracles and samples of the ball."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from onnx import helper
from reaas_bounds import Network, ReplicateChannels, SeparableResize, certified_constants
from reaas_bounds import load_network as load
from reaas_bounds.bounds import Centre, crown_bound, ibp_bound, per_coordinate_floor
from reaas_bounds.bounds.exclusion import jacobian
from reaas_bounds.graph import Affine
from torch import Tensor

from tests.bounds.encoders import ENCODERS, EncoderBuilder, interpolation, strided


def images(network: Network, count: int, seed: int = 0) -> Tensor:
    """Random images in [0, 1]."""
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.uniform(size=(count, *network.input_shape)))


def largest_change(network: Network, x: Tensor, radii: Tensor, samples: int = 200) -> Tensor:
    """Largest change of the feature over random points of each sphere, and along J."""
    generator = torch.Generator().manual_seed(1)
    worst = torch.zeros(len(x), dtype=torch.float64)
    centre = network.forward(x)
    for _ in range(samples):
        delta = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        delta *= (radii / delta.flatten(1).norm(dim=1))[:, None, None, None]
        worst = torch.maximum(worst, (network.forward(x + delta) - centre).norm(dim=1))
    return worst


@pytest.mark.parametrize("name", ENCODERS)
def test_every_bound_holds_on_samples_and_crown_is_within_ibp(name: str) -> None:
    network = load(ENCODERS[name](4))
    lipschitz = certified_constants(network).lipschitz
    x = images(network, 6)
    centre = Centre.of(network, x)
    for radius in (1e-4, 0.03, 0.3, 3.0):
        radii = torch.full((6,), radius, dtype=torch.float64)
        attained = largest_change(network, x, radii)
        floor = per_coordinate_floor(network, x, radii)
        crown, ibp = crown_bound(centre, radii), ibp_bound(centre, radii)
        assert bool((attained <= crown).all())
        assert bool((attained <= lipschitz * radii).all())
        assert bool((crown <= ibp * (1 + 1e-8)).all())
        assert bool((floor <= crown).all())


def test_bounds_grow_with_the_radius_and_vanish_with_it() -> None:
    network = load(ENCODERS["residual"](0))
    centre = Centre.of(network, images(network, 3))
    radii = [torch.full((3,), r, dtype=torch.float64) for r in (1e-9, 1e-3, 0.01, 0.1, 1.0)]
    for bound in (ibp_bound, crown_bound):
        values = [bound(centre, r) for r in radii]
        assert all(bool((a < b).all()) for a, b in itertools.pairwise(values))
        assert float(values[0].max()) < 1e-6


def exact_norm_of_jacobians(network: Network) -> float:
    """Largest ||W_3 D_2 W_2 D_1 W_1|| over all ReLU patterns of a dense network."""
    weights = [n.linear for n in network.folded.nodes if isinstance(n, Affine)]
    matrices = [w.weight for w in weights]  # type: ignore[attr-defined]
    patterns = [
        torch.tensor(list(itertools.product([0.0, 1.0], repeat=len(m))), dtype=torch.float64)
        for m in matrices[:-1]
    ]
    inner = patterns[0][:, :, None] * matrices[0]  # [p, h, i]
    both = torch.einsum("qh,hk,pki->pqhi", patterns[1], matrices[1], inner)
    jacobians = matrices[2] @ both
    return float(torch.linalg.matrix_norm(jacobians, 2).max())


def test_the_constant_of_a_tiny_network_covers_every_activation_pattern() -> None:
    for seed in range(5):
        builder = EncoderBuilder((1, 2, 2), seed=seed).op("Flatten")
        network = load(builder.linear(4, 6).relu().linear(6, 5).relu().linear(5, 3).file(3))
        constants = certified_constants(network)
        exact = exact_norm_of_jacobians(network)
        assert exact <= constants.lipschitz <= np.prod(constants.layer_norms) * (1 + 1e-6)
        assert constants.method == "averaged-operators"


def test_crown_is_exact_where_no_neuron_changes_sign() -> None:
    """Inside one linear piece the bound is ||A||_F r: the rows of the Jacobian."""
    network = load(ENCODERS["strided"](2))
    x = images(network, 1)
    values = network.folded.activations(x)
    rows = jacobian(network.folded, values).flatten(1)
    radius = torch.tensor([1e-7], dtype=torch.float64)
    bound = crown_bound(Centre.of(network, x), radius)
    assert float(bound) == pytest.approx(float(rows.norm() * radius), rel=1e-3)


def test_normalisation_and_rescaling_belong_to_the_first_affine_map() -> None:
    """Kept apart, an interval of the ball would pay sqrt(pixels); folded, the rows are exact."""
    network = load(strided(1)).with_input([ReplicateChannels(3), SeparableResize(*_pair(5))])
    x, radius = images(network, 1), torch.tensor([0.1], dtype=torch.float64)
    first = next(n for n in network.folded.nodes if isinstance(n, Affine))
    assert first.source == 0
    matrix = (
        first.linear.apply(torch.eye(25, dtype=torch.float64).reshape(25, 1, 5, 5)).flatten(1).T
    )
    torch.testing.assert_close(
        network.first_row_norms[1].flatten(), matrix.norm(dim=1), rtol=1e-10, atol=0
    )
    delta = torch.randn(500, 1, 5, 5, dtype=torch.float64)
    delta *= radius / delta.flatten(1).norm(dim=1)[:, None, None, None]
    moved = (network.forward(x + delta) - network.forward(x)).norm(dim=1).max()
    assert float(moved) <= float(crown_bound(Centre.of(network, x), radius))


def _pair(size: int) -> tuple[np.ndarray, np.ndarray]:
    return interpolation(size, 8), interpolation(size, 8)


def test_skipping_the_normalisation_would_be_caught() -> None:
    """The constant without 1/std is broken by one step along the top direction."""
    network = load(strided(0))
    raw = certified_constants(_without_normalisation(0)).lipschitz
    x = images(network, 1)
    values = network.folded.activations(x)
    rows = jacobian(network.folded, values).flatten(1)
    top = torch.linalg.svd(rows).Vh[0].reshape(x.shape) * 1e-6
    change = float((network.forward(x + top) - network.forward(x)).norm())
    assert change <= certified_constants(network).lipschitz * 1e-6
    assert float(torch.linalg.matrix_norm(rows, 2)) <= certified_constants(network).lipschitz
    assert certified_constants(network).lipschitz > 3 * raw


def _without_normalisation(seed: int) -> bytes:
    builder = EncoderBuilder(seed=seed)
    builder.random.uniform(size=6)
    builder.conv(5, 4, strides=[2, 2], pads=[1, 1, 1, 1]).relu()
    builder.conv(7, 4, strides=[2, 2], pads=[1, 1, 1, 1]).relu()
    return builder.head(7 * 2 * 2)


def test_paths_that_point_the_same_way_add_up() -> None:
    """``relu(x) + x`` doubles what is above zero: no right angle between its two paths."""
    assert certified_constants(_residual_of_itself()).lipschitz >= 2.0


def _residual_of_itself() -> bytes:
    nodes = [
        helper.make_node("Relu", ["input"], ["positive"]),
        helper.make_node("Add", ["positive", "input"], ["both"]),
        helper.make_node("Flatten", ["both"], ["feature"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", 1, ["N", 1, 2, 2])],
        [helper.make_tensor_value_info("feature", 1, ["N", 4])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())
