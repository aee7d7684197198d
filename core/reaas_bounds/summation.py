"""What a float32 sum of products can be off, whatever the order in which it is added up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reaas_bounds.graph.maps import Convolution, Dense
from reaas_bounds.graph.nodes import Affine
from reaas_bounds.norms.matrix import gamma

UNIT_32 = 2.0**-24  # unit roundoff of float32
# Roundings of one product: its own, and those of a factor that ONNX Runtime multiplies into the
# weights (1/std, or a batch normalisation's, which takes four roundings and a division).
FACTORS = 8
# Additions beside those of the products: up to three parts of a bias, a start from zero.
EXTRA_ADDITIONS = 4


@dataclass(frozen=True, eq=False)
class SumRounding:
    """Rounding of ``s = W h + b``: per entry at most ``magnitude T + total |s|``.

    ``T = |W| |h| + |b|``. Both coefficients are float64 and broadcastable to the output.
    """

    magnitude: Tensor
    total: Tensor

    @cached_property
    def largest(self) -> tuple[float, float]:
        """The largest of both coefficients."""
        return float(self.magnitude.max()), float(self.total.max())


EXACT = SumRounding(torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64))


def sum_rounding(node: Affine) -> SumRounding:
    """Rounding of an affine node that reads float32 values h; deterministic.

    Theorem: let s be the sum of terms t_i, each off by at most ``gamma_F |t_i|``, added up in n
    additions of any order, fused with the products or not. An addition is off by at most u times
    what it gives: the sum of a subset of the terms and what was rounded before. The former is at
    most ``(T + |s|) / 2`` with ``T = sum |t_i|``, since the subset and the rest have at most T
    together and differ by at most |s|; the latter is at most ``gamma_{n+F} T``. So s is off by
    ``gamma_F T + n u ((T + |s|) / 2 + gamma_{n+F} T)`` at most: about half of ``gamma_n T``
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.1), which is used where the map is
    a product of maps and its inner sums are rounded too.

    n counts the products entry by entry: without zero weights and padding, which are exact.
    """
    linear = node.linear
    if linear.terms == 0 and not bool(node.bias_magnitude.any()):
        return EXACT  # a reshape or a copy
    if not isinstance(linear, Convolution | Dense):
        relative = gamma(linear.terms + EXTRA_ADDITIONS + FACTORS, UNIT_32)
        return SumRounding(EXACT.magnitude + relative, EXACT.total)
    additions = _products(linear) + EXTRA_ADDITIONS
    second_order = gamma(math.ceil(float(additions.max())) + FACTORS, UNIT_32)
    half = additions * (UNIT_32 / 2)
    return SumRounding(gamma(FACTORS, UNIT_32) + half * (1 + 2 * second_order), half)


def additions_of(node: Affine) -> int:
    """Most additions behind one entry of a convolution or matrix; 0 for other maps."""
    if not isinstance(node.linear, Convolution | Dense):
        return 0
    return math.ceil(float(_products(node.linear).max())) + EXTRA_ADDITIONS


def _products(linear: Convolution | Dense) -> Tensor:
    """Per output entry how many products are not exact zeros, largest over the channels."""
    used = linear.with_weights(lambda weight: (weight != 0).to(torch.float64))
    counts = used.apply(torch.ones(1, *linear.input_shape, dtype=torch.float64))[0]  # [*shape]
    return counts.amax(0, keepdim=True) if counts.dim() == 3 else counts
