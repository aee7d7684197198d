"""Products of two activations: entry by entry, and of matrices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.coupling.coupling import Coupling
from reaas_bounds.graph.coupling.reached import RELATIVE, Reached
from reaas_bounds.graph.window import Shape

UNIT_32 = 2.0**-24
# Sums stay below half of the largest float32 number.
_LARGEST = 2.0**126
# One product may vanish below the smallest float32 number, or below the smallest normal one.
UNDERFLOW = 2.0**-126


class Product(Coupling):
    """``a * b`` entrywise, where shapes [*left] and [*right] of one rank broadcast.

    Theorem: ``a' b' - a b = (a' - a) b' + a (b' - b)``. In the 2-norm ``(a' - a) b'`` is at most
    ``||a' - a||`` times the largest norm of those entries of b' that one entry of a meets.
    """

    name = "Mul"

    def __init__(self, left: Shape, right: Shape) -> None:
        self.shapes = left, right
        self.shape: Shape = tuple(max(pair) for pair in zip(left, right, strict=True))

    def value(self, *inputs: Tensor) -> Tensor:
        """The product."""
        left, right = inputs
        return left * right

    def gains(self, *inputs: Reached) -> tuple[float, ...]:
        """How much of the other factor one entry meets."""
        (left, right), (a, b) = self.shapes, inputs
        return self._met(b, left), self._met(a, right)

    def _met(self, other: Reached, shape: Shape) -> float:
        """Largest norm of the entries of ``other`` that meet one entry of an activation."""
        by_size = self._norms(other.sizes, shape)
        by_move = self._norms(other.centre, shape) + other.move
        return min(by_size, by_move) * (1 + RELATIVE)

    def _norms(self, values: Tensor, shape: Shape) -> float:
        squares = values.square().expand(self.shape)
        met = squares.sum_to_size(shape) if shape else squares.sum()
        return math.sqrt(float(met.max()))

    def image(self, *inputs: Reached) -> tuple[Tensor, Tensor]:
        """From the products of the ends."""
        a, b = inputs
        ends = [x * y for x in (a.lower, a.upper) for y in (b.lower, b.upper)]
        found = torch.stack([torch.nan_to_num(end, nan=0.0, posinf=math.inf, neginf=-math.inf)
                             for end in ends])  # fmt: skip
        low, high = found.amin(0), found.amax(0)
        slack = RELATIVE * torch.maximum(low.abs(), high.abs())
        return low - slack, high + slack

    def rounding(self, *inputs: Reached) -> float:
        """One rounding an entry."""
        (to_left, to_right), (a, b) = self.gains(*inputs), inputs
        size = min(_times(to_left, a.length), _times(to_right, b.length))
        return UNIT_32 * size * (1 + RELATIVE) + UNDERFLOW * math.sqrt(math.prod(self.shape))


class MatrixProduct(Coupling):
    """``a @ b`` of stacks of matrices [*h, m, k] and [*h, k, n].

    Theorem: as for ``Product``, ``||(a' - a) b'||_F <= ||a' - a||_F`` times the largest 2-norm of a
    matrix of b', which its Frobenius norm and ``sqrt(||.||_1 ||.||_inf)`` bound.
    """

    name = "MatMul"

    def __init__(self, left: Shape, right: Shape) -> None:
        self.shape: Shape = (*left[:-1], right[-1])
        self.terms = left[-1]

    def value(self, *inputs: Tensor) -> Tensor:
        """The product."""
        left, right = inputs
        return left @ right

    def gains(self, *inputs: Reached) -> tuple[float, ...]:
        """The largest norm of a matrix of the other factor."""
        a, b = inputs
        return _largest(b), _largest(a)

    def image(self, *inputs: Reached) -> tuple[Tensor, Tensor]:
        """At most the product of the sizes."""
        a, b = inputs
        most = torch.nan_to_num(a.sizes @ b.sizes, nan=math.inf, posinf=math.inf) * (1 + RELATIVE)
        return -most, most

    def rounding(self, *inputs: Reached) -> float:
        """Sums of ``terms`` products, in any order: ``gamma |a| |b|``."""
        a, b = inputs
        if not a.length * b.length < _LARGEST:
            return math.inf  # a sum on the way may overflow
        unit = (self.terms + 4) * UNIT_32
        size = min(_times(_spectral(b.sizes), a.length), _times(_spectral(a.sizes), b.length))
        vanished = 2 * self.terms * UNDERFLOW * math.sqrt(math.prod(self.shape))
        return unit / (1 - unit) * size * (1 + RELATIVE) + vanished


def _largest(reached: Reached) -> float:
    """Largest norm of a matrix of ``reached``."""
    by_size, by_move = _spectral(reached.sizes), _spectral(reached.centre) + reached.move
    return min(by_size, by_move) * (1 + RELATIVE)


def _spectral(matrices: Tensor) -> float:
    """Bound of the largest 2-norm of matrices [*h, m, k], and of their absolute values."""
    sizes = matrices.abs()
    frobenius = sizes.square().sum((-2, -1)).sqrt()
    sums = (sizes.sum(-1).amax(-1) * sizes.sum(-2).amax(-1)).sqrt()
    return float(torch.minimum(frobenius, sums).max()) * (1 + RELATIVE)


def _times(a: float, b: float) -> float:
    """A product where nothing is nothing, however much there is of it."""
    return 0.0 if a == 0.0 or b == 0.0 else a * b
