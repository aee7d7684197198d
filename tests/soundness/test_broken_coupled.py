"""Broken constants of products, softmax and normalisation, and of the newer activations.

As in ``test_broken``: the audit has to find each mistake, and finds nothing without it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reaas_bounds.coupled_error
from reaas_bounds import Method
from reaas_bounds.bounds.region import Region
from reaas_bounds.graph.coupling import Coupling, MatrixProduct, Product, Softmax, Standardisation
from reaas_bounds.graph.deconvolution import TransposedConvolution
from reaas_bounds.graph.gates import HARD_SWISH
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.norms import OperatorNorms

from tests.soundness.audit import Examined, ball_radii
from tests.soundness.draft import Draft
from tests.soundness.test_broken import found


def squares() -> bytes:
    """Squares of pixels, and a linear end: half of the constant is the other factor's."""
    draft = Draft((1, 2, 2), 0)
    start = draft.op("Flatten")
    draft.op("Mul", start, start)
    return draft.finish()


def paths() -> bytes:
    """Two pixels multiplied."""
    draft = Draft((1, 1, 2), 0)
    flat = draft.op("Flatten")
    left = draft.op("Gemm", flat, np.array([[1.0, 0.0]]), transB=1)
    right = draft.op("Gemm", flat, np.array([[0.0, 1.0]]), transB=1)
    draft.op("Mul", left, right)
    return draft.finish()


def matrices() -> bytes:
    """The product of an image and its transpose."""
    draft = Draft((2, 2, 2), 0)
    start = draft.last
    draft.op("Transpose", perm=[0, 1, 3, 2])
    draft.op("MatMul", start, draft.last)
    draft.op("Flatten")
    return draft.finish()


def shares() -> bytes:
    """Shares of two numbers that are nearly equal."""
    draft = Draft((1, 1, 2), 0)
    draft.op("Flatten")
    draft.op("Mul", np.array(0.1))
    draft.op("Softmax", axis=1)
    return draft.finish()


def standardised() -> bytes:
    """Four pixels by their own mean and variance."""
    draft = Draft((1, 1, 4), 0)
    draft.op("LayerNormalization", np.ones(4), axis=-1, epsilon=0.3)
    draft.op("Flatten")
    return draft.finish()


def first_only(function: type[Coupling]) -> Callable[[pytest.MonkeyPatch], None]:
    """The constant in one input only, as if the other factor stood still."""
    gains = function.gains

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(function, "gains", lambda self, *h: (gains(self, *h)[0], 0.0))

    return broken


def lowered(function: type[Coupling], share: float) -> Callable[[pytest.MonkeyPatch], None]:
    """The constant times ``share``."""
    gains = function.gains

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(function, "gains", lambda self, *h: tuple(share * g for g in gains(self, *h)))

    return broken


def test_a_product_whose_second_factor_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(squares(), monkeypatch, first_only(Product)).beaten


def test_a_product_of_matrices_whose_second_factor_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert found(matrices(), monkeypatch, first_only(MatrixProduct)).beaten


def test_a_product_with_half_its_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(paths(), monkeypatch, lowered(Product, 0.5)).beaten


def test_a_softmax_with_too_small_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(shares(), monkeypatch, lowered(Softmax, 0.8)).beaten


def test_a_normalisation_with_too_small_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(standardised(), monkeypatch, lowered(Standardisation, 0.6)).beaten


def test_factors_as_large_as_at_the_image_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The derivative at the image in place of a constant on the ball."""

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(Region, "within", lambda self, radius: _still(self, radius))

    assert found(squares(), monkeypatch, broken).beaten


def _still(region: Region, radius: float) -> Region:
    """A region of no size that claims another."""
    shrunk = Region(region.network, region.values, 0.0)
    object.__setattr__(shrunk, "radius", radius)
    return shrunk


def test_no_float32_error_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact features within R', served ones not: a large number times one, less itself."""
    draft = Draft((1, 1, 2), 0)
    flat = draft.op("Flatten")
    left = draft.op("Gemm", flat, np.eye(2), np.full(2, 3e4), transB=1)
    right = draft.op("Gemm", flat, np.zeros((2, 2)), np.ones(2), transB=1)
    draft.op("Mul", left, right)
    draft.op("Sub", np.full(2, 3e4))

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(reaas_bounds.coupled_error.RegionError, "value", 0.0)

    assert found(draft.finish(), monkeypatch, broken).beaten


def test_a_slope_whose_peak_is_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """HardSwish with slopes between those far out, 0 and 1: its peak is 3/2."""
    draft = Draft((1, 1, 2), 0)
    draft.op("Flatten")
    draft.op("Add", np.array(2.3))
    draft.op("HardSwish")

    def broken(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(HARD_SWISH, "low", HARD_SWISH.low * 0)
        patch.setattr(HARD_SWISH, "high", HARD_SWISH.high * 0 + 1)

    assert found(draft.finish(), monkeypatch, broken).beaten


def test_a_transposed_convolution_that_forgets_its_overlaps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The norm of the kernel alone: right if its windows did not overlap."""
    draft = Draft((1, 3, 3), 0)
    draft.op("Relu")
    draft.op("ConvTranspose", np.abs(draft.weights(1, 1, 3, 3)), strides=[1, 1])
    draft.op("Flatten")
    norm = OperatorNorms.of

    def of(norms: OperatorNorms, *maps: LinearMap) -> float:
        if len(maps) == 1 and isinstance(maps[0].parts[0], TransposedConvolution):
            return float(maps[0].parts[0].convolution.weight.norm())
        return norm(norms, *maps)

    assert found(
        draft.finish(), monkeypatch, lambda patch: patch.setattr(OperatorNorms, "of", of)
    ).beaten


def test_every_method_answers_by_the_constants() -> None:
    """Bounds that cannot look into a product do not pretend to."""
    examined = Examined(squares())
    asked = examined.drawn(2, 0)
    radii = [
        ball_radii(examined.network, examined.constants, asked, method).tolist()
        for method in Method
    ]
    assert all(found == radii[0] for found in radii)
    assert min(radii[0]) > 0
