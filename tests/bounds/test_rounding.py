"""The features that clients compare are float32: how far they are off is bounded, and attacked."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas_bounds import Method, SeparableResize, certified_constants, certify_ball, load_network
from reaas_bounds.graph.maps import Convolution, Dense
from reaas_bounds.graph.nodes import Affine
from reaas_bounds.leading import LeadingForm
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.rounding import float32_error, float32_error_at, float32_row_error_at
from reaas_bounds.summation import UNIT_32, sum_rounding

from tests.bounds.encoders import ENCODERS, Float32, interpolation, strided


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 16.0, 1e4])
def test_onnx_runtime_stays_within_both_bounds(name: str, size: float) -> None:
    data = ENCODERS[name](1)
    network = load_network(data)
    constants = certified_constants(network)
    random = np.random.default_rng(2)
    images = random.uniform(-size, size, (200, *network.input_shape)).astype(np.float32)
    x = torch.from_numpy(images.astype(np.float64))
    off = np.linalg.norm(Float32(data)(images) - network.forward(x).numpy(), axis=1)
    at_x = float32_error_at(network, x).numpy()
    everywhere = constants.float32_slope * x.flatten(1).norm(dim=1).numpy()
    assert (off <= at_x).all()
    assert (at_x <= (everywhere + constants.float32_offset) * (1 + 1e-3)).all()


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_onnx_runtime_stays_within_the_bound_of_every_row(name: str, size: float) -> None:
    data = ENCODERS[name](1)
    network = load_network(data)
    random = np.random.default_rng(3)
    images = random.uniform(-size, size, (20, *network.input_shape)).astype(np.float32)
    x = torch.from_numpy(images.astype(np.float64))
    off = torch.from_numpy(Float32(data)(images).astype(np.float64)) - network.forward(x)
    rows = torch.from_numpy(random.normal(size=(50, network.feature_dim)))
    at_x = float32_error_at(network, x)
    together = float32_row_error_at(network, x, rows.expand(len(x), -1, -1))  # [n, m]
    for image, bound, miss, norm in zip(x, together, off, at_x.tolist(), strict=True):
        assert torch.equal(float32_row_error_at(network, image[None], rows[None])[0], bound)
        assert bool(((rows @ miss).abs() <= bound).all())
        assert bool((bound <= rows.norm(dim=1) * norm * (1 + 1e-9)).all())


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_has_the_same_bits_in_any_batch(name: str) -> None:
    network = load_network(ENCODERS[name](1))
    x = torch.rand(37, *network.input_shape, dtype=torch.float64)
    together = float32_error_at(network, x)
    alone = torch.cat([float32_error_at(network, image[None]) for image in x])
    order = torch.randperm(len(x))
    assert torch.equal(together, alone)
    assert torch.equal(float32_error_at(network, x[order]), together[order])
    assert float32_error_at(network, x[:0]).shape == (0,)


def _sum_of(weights: list[float], bias: float) -> Affine:
    """One row of weights as a node."""
    matrix = torch.tensor([weights], dtype=torch.float64)
    shift = torch.tensor([bias], dtype=torch.float64)
    return Affine(0, Dense(matrix, (len(weights),), (1,)), shift, shift.abs())


def _bound(node: Affine, values: list[float]) -> float:
    weights = node.linear.apply(torch.eye(len(values), dtype=torch.float64))[:, 0]
    terms = weights * torch.tensor(values, dtype=torch.float64)
    rounding = sum_rounding(node)
    exact = float(terms.sum() + node.bias)
    magnitude = float(terms.abs().sum() + node.bias_magnitude)
    return float(rounding.magnitude * magnitude + rounding.total * abs(exact))


_NUMBERS = st.floats(-8.0, 8.0, width=32)


@given(terms=st.lists(st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=60), data=st.data())
def test_a_float32_sum_stays_within_its_rounding_in_any_order(
    terms: list[tuple[float, float]], data: st.DataObject
) -> None:
    bias = data.draw(_NUMBERS)
    node = _sum_of([weight for weight, _ in terms], bias)
    products = [np.float32(weight) * np.float32(value) for weight, value in terms]
    # Largest partial sums: all of one sign first.
    worst = sorted(products, key=float, reverse=data.draw(st.booleans()))
    for order in (data.draw(st.permutations(products)), worst):
        computed = float(sum([*order, np.float32(bias)], np.float32(0)))
        exact = sum(weight * value for weight, value in terms) + bias
        assert abs(computed - exact) <= _bound(node, [value for _, value in terms]) + 1e-36


def test_the_rounding_of_a_sum_is_attained_and_half_of_the_usual_one() -> None:
    count = 1000
    values = [1.0] + [UNIT_32] * (count - 1)  # 1 + u is 1 in float32: each addition loses u
    *_, computed = accumulate(np.float32(value) for value in values)
    missed = abs(float(computed) - sum(values))
    assert missed >= 0.97 * _bound(_sum_of([1.0] * count, 0.0), values)
    mixed = [(-1.0) ** k for k in range(count)]
    usual = gamma(count, UNIT_32) * count
    assert _bound(_sum_of([1.0] * count, 0.0), mixed) < 0.52 * usual


def test_zero_weights_and_padding_do_not_round() -> None:
    few = _sum_of([1.0, 0.0, 0.0, 2.0], 0.0)
    many = _sum_of([1.0, 1.0, 1.0, 2.0], 0.0)
    assert float(sum_rounding(few).magnitude) < float(sum_rounding(many).magnitude)


def test_the_row_bound_grows_no_faster_than_the_slope_says() -> None:
    network = load_network(strided())
    slope, _ = float32_error(network)
    random = torch.Generator().manual_seed(5)
    x = torch.rand(1, *network.input_shape, dtype=torch.float64, generator=random)
    rows = torch.randn(8, network.feature_dim, dtype=torch.float64, generator=random)
    here = float32_row_error_at(network, x, rows[None])[0]
    for _ in range(20):
        step = torch.randn(x.shape, dtype=torch.float64, generator=random)
        there = float32_row_error_at(network, x + step, rows[None])[0]
        growth = rows.norm(dim=1) * slope * float(step.norm())
        assert bool((there <= here * (1 + 1e-3) + growth).all())


def test_bytes_divided_by_255_and_a_float32_resize_are_part_of_it() -> None:
    network = load_network(strided())
    matrix = interpolation(13, 8)
    client = network.with_input([SeparableResize(matrix, matrix)])
    levels = np.random.default_rng(0).integers(0, 256, (100, 3, 13, 13))
    weights = matrix.astype(np.float32)
    decoded = levels.astype(np.float32) / np.float32(255)
    served = Float32(strided())(weights @ decoded @ weights.T)
    x = torch.from_numpy(levels / 255.0)
    off = np.linalg.norm(served - client.forward(x).numpy(), axis=1)
    slope, offset = float32_error(client)
    assert (off <= float32_error_at(client, x).numpy()).all()
    assert (off <= slope * x.flatten(1).norm(dim=1).numpy() + offset).all()
    assert slope > float32_error(network)[0] * 0.5


def test_the_bound_is_small_against_a_feature() -> None:
    network = load_network(strided())
    x = torch.rand(10, *network.input_shape, dtype=torch.float64)
    sizes = network.forward(x).norm(dim=1)
    assert bool((float32_error_at(network, x) < 1e-3 * sizes).all())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 20), st.integers(1, 3), st.integers(1, 2))
def test_the_leading_form_bounds_a_convolution_with_absolute_weights(
    seed: int, outputs: int, inputs: int, stride: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, 3, 2, generator=random).double()
    conv = Convolution(weight, (inputs, 7, 6), (stride, 1), (1, 0, 2, 1))
    form = LeadingForm.of(conv)
    assert form is not None
    h = torch.rand(5, inputs, 7, 6, generator=random).square()
    truth = conv.absolute().apply(h.double()).square().sum(1, keepdim=True)
    bound = form.squares(h).double() * (1 + 1e-5)
    assert bool((truth <= bound).all())
    assert float(bound.sum()) <= 2 * float(truth.sum())


def test_both_features_of_a_ball_may_be_off() -> None:
    """The one that is compared with is served, too: R' below two errors certifies nothing."""
    network = load_network(ENCODERS[next(iter(ENCODERS))](1))
    x = torch.rand(1, *network.input_shape, dtype=torch.float64)
    error = float32_error_at(network, x)
    constants = certified_constants(network)
    for times, certified in ((1.9, False), (2.1, True)):
        [found] = certify_ball(network, constants, x, times * error, Method.LIPSCHITZ)
        assert (found.radius > 0) is certified
