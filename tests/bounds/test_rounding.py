"""The features that clients compare are float32: how far they are off is bounded, and attacked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reaas_bounds import SeparableResize, certified_constants, load_network
from reaas_bounds.rounding import float32_error, float32_error_at

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
