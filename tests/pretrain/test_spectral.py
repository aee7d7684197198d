"""Norms of the layer operators: from below, close, and of the operator that is served."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.sections import EncoderConfig
from reaas_pretrain.spectral import SpectralTerm, spread
from torch import Tensor, nn


def _encoder(seed: int, size: int, kernel: int, stride: int, padding: int) -> ConvEncoder:
    torch.manual_seed(seed)
    return ConvEncoder(
        EncoderConfig(
            channels=(3, 4),
            kernel=kernel,
            stride=stride,
            padding=padding,
            feature_dim=5,
            image_size=size,
            std=(0.2, 0.3, 0.5),
        )
    )


def _true_norms(encoder: ConvEncoder) -> list[float]:
    """Largest singular values of the layers written out as dense matrices."""
    norms = []
    for index, (layer, shape) in enumerate(
        zip(encoder.layers, encoder.operator_shapes, strict=True)
    ):
        basis = torch.eye(int(torch.tensor(shape).prod())).reshape(-1, *shape[1:])
        inputs = basis / encoder.std if index == 0 else basis
        bias = layer.bias
        assert bias is not None
        constant = bias.view(1, -1, 1, 1) if isinstance(layer, nn.Conv2d) else bias
        columns: Tensor = (layer(inputs) - constant).flatten(1).detach()  # [inputs, outputs]
        norms.append(float(torch.linalg.matrix_norm(columns.double(), 2)))
    return norms


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.integers(10, 13),
    kernel=st.integers(2, 4),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
)
def test_power_iteration_is_below_the_operator_norm_and_close(
    seed: int, size: int, kernel: int, stride: int, padding: int
) -> None:
    encoder = _encoder(seed, size, kernel, stride, padding)
    found = SpectralTerm(encoder, "product").norms(encoder, iterations=300).detach()
    for sigma, truth in zip(found.tolist(), _true_norms(encoder), strict=True):
        assert sigma <= truth * (1 + 1e-5)
        assert sigma >= truth * 0.98


def test_vectors_are_kept_so_that_single_iterations_converge() -> None:
    encoder = _encoder(0, 8, 4, 2, 1)
    term = SpectralTerm(encoder, "product")
    first = term.norms(encoder).detach()
    for _ in range(100):
        last = term.norms(encoder).detach()
    assert (last >= first).all()
    assert last.tolist() == pytest.approx(_true_norms(encoder), rel=1e-2)


def test_gradient_of_the_norm_is_that_of_the_top_singular_value() -> None:
    encoder = _encoder(4, 8, 4, 2, 1)
    norms = SpectralTerm(encoder, "product").norms(encoder, iterations=300)
    (gradient,) = torch.autograd.grad(norms[-1], encoder.linear.weight)
    left, _, right = torch.linalg.svd(encoder.linear.weight.detach())
    assert torch.allclose(gradient, torch.outer(left[:, 0], right[0]), atol=1e-2)


@pytest.mark.parametrize("variant", ["product", "sum", "log"])
def test_shrinking_the_last_layer_does_not_satisfy_the_term(variant: str) -> None:
    encoder = _encoder(1, 8, 4, 2, 1)
    term = SpectralTerm(encoder, variant)  # type: ignore[arg-type]
    images = torch.rand(20, 3, 8, 8)
    values = []
    for _ in range(2):
        values.append(float(term(term.norms(encoder, 200), encoder(images)).detach()))
        with torch.no_grad():
            encoder.linear.weight.mul_(0.1)
    assert values[1] == pytest.approx(values[0], rel=1e-3)


def test_spread_is_the_deviation_from_the_mean() -> None:
    features = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert float(spread(features)) == pytest.approx(1.0)
