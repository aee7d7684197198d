"""Certified norms: never below the truth, close to it, and better than the tempting false ones."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas_bounds.graph.linear import compose
from reaas_bounds.graph.maps import Convolution, Dense, Scaling, materialize
from reaas_bounds.graph.simplify import simplified
from reaas_bounds.norms import OperatorNorms, convolution_norm, matrix_norm
from reaas_bounds.norms.circulant import nonnegative_convolution_norm, proved_limit
from reaas_bounds.norms.gram import row_gram
from reaas_bounds.norms.matrix import eigenvectors
from torch import Tensor


def true_norm(linear: Convolution) -> float:
    """Largest singular value of the operator's matrix."""
    return float(torch.linalg.matrix_norm(materialize(linear).weight, 2))


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Gaussian float64 tensor."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Small convolutions of every geometry."""
    groups = draw(st.sampled_from([1, 1, 2]))
    inputs, outputs = (groups * draw(st.integers(1, 3)) for _ in range(2))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    pads = tuple(draw(st.integers(0, 3)) for _ in range(4))
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    shape = (inputs, draw(st.integers(spans[0], 9)), draw(st.integers(spans[1], 9)))
    weight = normal(outputs, inputs // groups, *kernel, seed=draw(st.integers(0, 10**6)))
    return Convolution(weight, shape, stride, pads, dilation, groups)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(convolutions())
def test_the_norm_of_a_convolution_is_never_below_the_truth(convolution: Convolution) -> None:
    assert convolution_norm(convolution) >= true_norm(convolution)


@settings(max_examples=100, deadline=None)
@given(convolutions())
def test_absolute_weights_are_bounded_from_one_frequency(convolution: Convolution) -> None:
    absolute = convolution.reweighted(convolution.weight.abs())
    bound = nonnegative_convolution_norm(absolute)
    assert true_norm(absolute) <= bound <= convolution_norm(absolute) * (1 + 1e-6)


@settings(max_examples=100, deadline=None)
@given(convolutions(), st.integers(1, 6))
def test_the_gram_matrix_of_local_rows_is_that_of_the_matrix(
    convolution: Convolution, channels: int
) -> None:
    second = Convolution(
        normal(channels, *convolution.output_shape[:1], 1, 1), convolution.output_shape
    )
    for linear in (convolution, compose([convolution, second])):
        truth = materialize(linear).weight
        found = torch.linalg.eigvalsh(row_gram(linear))
        wanted = torch.linalg.eigvalsh(truth @ truth.T)
        torch.testing.assert_close(found, wanted)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_rows_pulled_back_are_those_of_the_matrix(convolution: Convolution) -> None:
    rows = torch.eye(math.prod(convolution.output_shape), dtype=torch.float64)
    pulled = convolution.adjoint(rows.reshape(-1, *convolution.output_shape)).flatten(1)
    torch.testing.assert_close(pulled, materialize(convolution).weight)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "size"),
    [(3, 1, 1, 16), (4, 2, 1, 20), (2, 2, 0, 16), (5, 3, 2, 21)],
)
def test_plain_convolutions_are_bounded_within_two_percent(
    kernel: int, stride: int, pad: int, size: int
) -> None:
    weight = normal(6, 4, kernel, kernel)
    convolution = Convolution(weight, (4, size, size), (stride, stride), (pad,) * 4)
    assert 1 <= convolution_norm(convolution) / true_norm(convolution) <= 1.02


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 1000))
def test_the_norm_of_a_matrix_is_proved_and_tight(rows: int, columns: int, seed: int) -> None:
    matrix = normal(rows, columns, seed=seed)
    truth = float(torch.linalg.matrix_norm(matrix, 2))
    assert truth <= matrix_norm(matrix) <= truth * (1 + 1e-6)


def test_matrices_without_a_gap_or_without_rank_are_bounded() -> None:
    for matrix in (
        torch.eye(200, dtype=torch.float64),
        torch.zeros(70, 80, dtype=torch.float64),
        normal(100, 1) @ normal(1, 120),
        1e-30 * normal(80, 90),
    ):
        truth = float(torch.linalg.matrix_norm(matrix, 2))
        assert truth <= matrix_norm(matrix) <= truth * (1 + 1e-6)


def test_blocks_with_equal_singular_values_are_bounded_tightly() -> None:
    blocks = torch.linalg.qr(torch.complex(normal(5, 40, 40), normal(5, 40, 40)))[0]
    squared = proved_limit(3 * blocks)
    assert 9 * (1 - 1e-12) <= squared <= 9 * (1 + 1e-8)
    assert proved_limit(blocks, known=squared) == pytest.approx(squared, rel=1e-9)
    assert proved_limit(0 * blocks) == 0


def test_an_orthogonal_convolution_has_norm_one() -> None:
    rotation = torch.linalg.qr(normal(24, 24))[0].reshape(24, 24, 1, 1)
    assert 1 <= convolution_norm(Convolution(rotation, (24, 9, 9))) <= 1 + 1e-8
    pooled = torch.full((6, 1, 2, 2), 0.25, dtype=torch.float64)
    mean = Convolution(pooled, (6, 8, 8), stride=(2, 2), groups=6)
    assert 0.5 <= convolution_norm(mean) <= 0.5 * (1 + 1e-8)


def test_products_and_residual_dimensions_use_the_exact_matrix() -> None:
    first = Convolution(normal(4, 3, 4, 4), (3, 8, 8), (2, 2), (1, 1, 1, 1))
    second = Convolution(normal(5, 4, 3, 3, seed=1), (4, 4, 4), (1, 1), (1, 1, 1, 1))
    truth = float(
        torch.linalg.matrix_norm(materialize(second).weight @ materialize(first).weight, 2)
    )
    norms = OperatorNorms()
    assert truth <= norms.of(first, second) <= truth * (1 + 1e-6)
    assert norms.of(first, second) < norms.of(first) * norms.of(second)
    assert norms.of_absolute(first) >= float(
        torch.linalg.matrix_norm(materialize(first).weight.abs(), 2)
    )


def test_scalings_are_folded_into_their_neighbours_exactly() -> None:
    scale = Scaling(normal(4, 1, 1), (4, 6, 6))
    convolution = Convolution(normal(6, 2, 3, 3), (4, 6, 6), (2, 2), (1, 0, 1, 0), groups=2)
    after = Scaling(normal(6, 1, 1, seed=2), convolution.output_shape)
    folded = simplified((scale, convolution, after), at_input=False)
    assert isinstance(folded, Convolution)
    x = normal(2, 4, 6, 6, seed=3)
    torch.testing.assert_close(folded.apply(x), after.apply(convolution.apply(scale.apply(x))))
    per_pixel = Scaling(normal(6, 6), (4, 6, 6))
    kept = simplified((per_pixel, convolution), at_input=False)
    torch.testing.assert_close(kept.apply(x), convolution.apply(per_pixel.apply(x)))
    assert isinstance(simplified((per_pixel, convolution), at_input=True), Dense)


class TestBrokenNormsAreCaught:
    """What looks like a norm and is none: each falls below the truth where ours does not."""

    convolution = Convolution(normal(8, 8, 3, 3, seed=5), (8, 6, 6), (1, 1), (1, 1, 1, 1))

    def test_power_iteration_is_a_lower_bound(self) -> None:
        vector = normal(1, 8, 6, 6)
        for _ in range(20):
            vector = self.convolution.adjoint(self.convolution.apply(vector))
            vector = vector / vector.norm()
        power = float(self.convolution.apply(vector).norm())
        assert power < true_norm(self.convolution) <= convolution_norm(self.convolution)

    def test_the_reshaped_kernel_is_no_operator_norm(self) -> None:
        smooth = Convolution(normal(4, 2, 3, 3).abs(), (2, 8, 8), (1, 1), (1, 1, 1, 1))
        reshaped = float(torch.linalg.matrix_norm(smooth.weight.flatten(1), 2))
        assert reshaped < true_norm(smooth) <= convolution_norm(smooth)

    def test_the_circular_convolution_of_the_image_size_is_too_small(self) -> None:
        broken = 0
        for seed in range(200):
            weight = normal(1, 1, 3, 3, seed=seed)
            small = Convolution(weight, (1, 3, 3), (1, 1), (1, 1, 1, 1))
            circular = float(torch.fft.fft2(weight[0, 0], s=(3, 3)).abs().max())
            truth = true_norm(small)
            broken += circular < truth * (1 - 1e-9)
            assert convolution_norm(small) >= truth
        assert broken > 0


def test_eigenvectors_of_a_matrix_on_which_divide_and_conquer_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gives_up(_: Tensor) -> NoReturn:
        raise RuntimeError("failed to converge")

    matrix = torch.diag(torch.tensor([0.25, 0.25, 0.0, 1e-6], dtype=torch.float64))
    matrix[0, 2] = matrix[2, 0] = 0.01
    wanted = torch.linalg.eigvalsh(matrix)
    monkeypatch.setattr(torch.linalg, "eigh", gives_up)
    values, vectors = eigenvectors(matrix)
    assert torch.allclose(values, wanted, atol=1e-12)
    assert torch.allclose(matrix @ vectors, vectors * values, atol=1e-12)


def test_the_mean_of_a_large_plane_takes_no_memory_and_has_its_norm() -> None:
    """Of 96,000 pixels: units of the one output are looked at, not of every pixel."""
    shape = (4, 320, 300)
    weight = torch.full((4, 1, 320, 300), 1 / 96_000, dtype=torch.float64)
    mean = Convolution(weight, shape, (1, 1), (0, 0, 0, 0), (1, 1), 4)
    assert OperatorNorms().of(mean) == pytest.approx(96_000**-0.5, rel=1e-6)
