"""Certified norms of affine layers and of products of them, computed once per model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from reaas_bounds.graph.deconvolution import TransposedConvolution
from reaas_bounds.graph.linear import LinearMap, compose
from reaas_bounds.graph.maps import (
    Convolution,
    Dense,
    Replication,
    Rescaling,
    Reshape,
    Scaling,
    materialize,
)
from reaas_bounds.graph.sparse import Sparse
from reaas_bounds.interruption import checkpoint
from reaas_bounds.norms.alike import (
    channel_matrices,
    embeds,
    pointwise_matrix,
    within_permutations,
)
from reaas_bounds.norms.circulant import (
    convolution_norm,
    nonnegative_convolution_norm,
    proved_limit,
)
from reaas_bounds.norms.gram import row_gram
from reaas_bounds.norms.matrix import UNIT, gamma, gram_norm, matrix_norm
from reaas_bounds.norms.sparse import sparse_norm

# A product whose smaller side is at most this gets the exact norm of its matrix: on one core
# about 1 s and 200 MB; beyond, time grows with the cube of the side.
EXACT_SIDE = 2304
# The larger side of such a matrix, so that it stays under 300 MB.
EXACT_OTHER_SIDE = 16384
# What is only put among others, as before a concatenation, is not multiplied out where its smaller
# side is larger: a DenseNet has thousands of such products, and they win little.
TINY_SIDE = 256
# Maps whose own bound is not exact.
_BOUNDED = (Convolution, TransposedConvolution)
# Longer products are split: the number of blocks grows with the square of the depth otherwise.
EXACT_FACTORS = 4


class OperatorNorms:
    """Upper bounds of norms of linear maps and of their products; deterministic.

    Remembers what it computed: networks that share layers (the same model at another input size,
    or on another device) share one of these. Norms are computed on the CPU, of the maps' origins.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[LinearMap, ...], float] = {}
        self._absolute: dict[LinearMap, float] = {}

    def of(self, *maps: LinearMap) -> float:
        """Bound of ``||W_k ... W_1||_2`` for maps (W_1, ..., W_k), the first applied first.

        Exact (up to proved rounding) where the smaller side of the product is at most
        ``EXACT_SIDE``; otherwise the product of the norms of its factors, where a convolution is
        bounded by its circular extension.
        """
        maps = tuple(linear.origin for linear in maps)
        if maps not in self._known:
            checkpoint()
            self._known[maps] = self._bound(maps)
        return self._known[maps]

    def of_absolute(self, linear: LinearMap) -> float:
        """Bound of ``|| |W| ||_2``, entrywise absolute values (rounding analysis)."""
        linear = linear.origin
        if linear not in self._absolute:
            factors = linear.absolute().parts
            self._absolute[linear] = math.prod(_nonnegative_norm(part) for part in factors)
        return self._absolute[linear]

    def _bound(self, maps: tuple[LinearMap, ...]) -> float:
        factors = [part for linear in maps for part in linear.parts]
        if (alike := pointwise_matrix(factors)) is not None:
            terms = sum(factor.terms for factor in factors) + 8 * len(factors)
            spread = math.prod(self.of_absolute(linear) for linear in maps)
            return matrix_norm(alike, error=gamma(terms) * spread)
        inner = within_permutations(factors)
        if not inner:
            return 1.0
        if len(inner) == 1 and (blocks := channel_matrices(inner[0])) is not None:
            return math.sqrt(proved_limit(blocks)) * (1 + 8 * UNIT)
        sides = sorted(math.prod(s) for s in (maps[0].input_shape, maps[-1].output_shape))
        known = len(factors) == 1 and not isinstance(factors[0], _BOUNDED)
        if len(maps) > 1 and sides[0] > TINY_SIDE and embeds(maps[0]):
            return self.of(*maps[1:])
        small = len(maps) <= EXACT_FACTORS and sides[0] <= EXACT_SIDE
        if small and not known and sides[1] <= EXACT_OTHER_SIDE:
            return self._exact(maps, factors)
        if len(maps) > 1:
            cuts = range(1, len(maps))
            return min(self.of(*maps[:cut]) * self.of(*maps[cut:]) for cut in cuts)
        return math.prod(elementary_norm(part) for part in factors)

    def _exact(self, maps: Sequence[LinearMap], factors: Sequence[LinearMap]) -> float:
        # Entrywise the computed matrix is within gamma_k |W_n| ... |W_1| of the true one.
        terms = sum(factor.terms for factor in factors) + 8 * len(factors)
        spread = math.prod(self.of_absolute(linear) for linear in maps)
        larger = max(math.prod(maps[0].input_shape), math.prod(maps[-1].output_shape))
        return gram_norm(_smaller_gram(factors), larger, error=gamma(terms) * spread)


def elementary_norm(linear: LinearMap) -> float:
    """Bound of the norm of one elementary map; deterministic."""
    match linear:
        case Convolution():
            return convolution_norm(linear)
        case TransposedConvolution():
            return convolution_norm(linear.convolution)
        case Dense():
            return matrix_norm(linear.weight)
        case Scaling():
            return float(linear.factor.abs().max())
        case Rescaling():
            return matrix_norm(linear.rows) * matrix_norm(linear.columns)
        case Replication():
            return math.sqrt(linear.channels) * (1 + 2.0**-52)
        case Sparse():
            return sparse_norm(linear.matrix)
        case Reshape():
            return 1.0
        case _:
            raise TypeError(f"no certified norm for {type(linear).__name__}")


def _nonnegative_norm(linear: LinearMap) -> float:
    """The same for a map without negative entries."""
    if isinstance(linear, Convolution):
        return nonnegative_convolution_norm(linear)
    if isinstance(linear, TransposedConvolution):
        return nonnegative_convolution_norm(linear.convolution)
    return elementary_norm(linear)


def _smaller_gram(factors: Sequence[LinearMap]) -> Tensor:
    """Gram matrix of the product's rows or columns, whichever are fewer."""
    inputs, outputs = factors[0].input_shape, factors[-1].output_shape
    if math.prod(outputs) > math.prod(inputs):
        matrix = materialize(compose(factors)).weight  # [outputs, inputs]
        return matrix.T @ matrix
    return row_gram(compose(factors))
