"""Activations that bend: Tanh, Sigmoid, GELU, described by where they bend which way."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from reaas_bounds.graph.activation import Entrywise

# Outward rounding of float64 values and slopes: some 50 units of rounding.
SLACK = 1e-14

# GELU by tanh: ``z / 2 (1 + tanh u)`` with ``u = GELU_SCALE (z + GELU_CUBIC z^3)``.
GELU_SCALE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
# Beyond, its slope is 0 or 1 in float64, and powers of z would overflow.
_FAR = 100.0


class Smooth(Entrywise):
    """A continuous function between whose ``inflections`` the slope is monotone.

    ``rising[k]``: the slope rises (the function is convex) left of ``inflections[k]``; the last
    entry belongs to the piece right of all of them. ``limits``: the slopes far out on both sides;
    ``errors``: (relative, absolute) error in float32, and ``argument_error``. Float64 values and
    slopes are good to ``SLACK (1 + |z|)``. The slope may jump at an inflection: the derivative
    there is then the one of its two slopes that is more extreme than all others nearby.
    """

    def __init__(
        self,
        name: str,
        functions: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]],
        inflections: tuple[float, ...],
        rising: tuple[bool, ...],
        limits: tuple[float, float],
        turning: tuple[float, ...],
        errors: tuple[float, float],
        argument_error: float = 0.0,
    ) -> None:
        self.name, self._functions = name, functions
        self.argument_error = argument_error
        self.inflections, self.rising, self.turning = inflections, rising, turning
        self.relative_error, self.absolute_error = errors
        slopes = self.derivative(torch.tensor(inflections, dtype=torch.float64)).tolist()
        extremes = [*slopes, *limits]  # the slope is extreme where it turns, or far out
        self.low = torch.tensor(min(extremes) - SLACK, dtype=torch.float64)
        self.high = torch.tensor(max(extremes) + SLACK, dtype=torch.float64)

    def value(self, z: Tensor) -> Tensor:
        """The function at ``z``."""
        return self._functions[0](z)

    def derivative(self, z: Tensor) -> Tensor:
        """Its slope at ``z``."""
        return self._functions[1](z)

    def bends(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Everywhere."""
        return upper > lower

    def cast(self, dtype: torch.dtype) -> Smooth:
        """It has no parameters but scalars, which take the type of what they meet."""
        return self

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value, rounded outward."""
        smallest, largest = super().image(lower, upper)
        slack = SLACK * (1 + torch.maximum(lower.abs(), upper.abs()))
        return smallest - slack, largest + slack

    def slopes_on(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Range of the derivative on [lower, upper], rounded outward; grows with the interval."""
        ends = self.derivative(lower), self.derivative(upper)
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        for point in self.inflections:
            inside = (lower < point) & (point < upper)
            there = self.derivative(torch.full_like(lower, point))
            low = torch.where(inside, torch.minimum(low, there), low)
            high = torch.where(inside, torch.maximum(high, there), high)
        return low - SLACK, high + SLACK

    def curvature_on(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """(convex, concave): where the function is so on all of [lower, upper]."""
        borders = [-math.inf, *self.inflections, math.inf]
        convex = torch.zeros_like(lower, dtype=torch.bool)
        concave = convex.clone()
        for left, right, rising in zip(borders[:-1], borders[1:], self.rising, strict=True):
            within = (lower >= left) & (upper <= right)
            convex, concave = (convex | within, concave) if rising else (convex, concave | within)
        return convex, concave


def _sigmoid_slope(z: Tensor) -> Tensor:
    value = torch.sigmoid(z)
    slope: Tensor = value * (1 - value)
    return slope


def _gelu(z: Tensor) -> Tensor:
    value: Tensor = z * torch.special.ndtr(z)
    return value


def _gelu_slope(z: Tensor) -> Tensor:
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    slope: Tensor = torch.special.ndtr(z) + z * density
    return slope


def _tanh_gelu(z: Tensor) -> Tensor:
    value: Tensor = z * torch.sigmoid(2 * GELU_SCALE * (z + GELU_CUBIC * z**3))
    return value


def _tanh_gelu_slope(z: Tensor) -> Tensor:
    z = z.clamp(-_FAR, _FAR)
    twice = 2 * GELU_SCALE * (z + GELU_CUBIC * z**3)  # (1 + tanh u) / 2 = sigmoid(2u)
    steep = 2 * GELU_SCALE * (1 + 3 * GELU_CUBIC * z * z)
    share = torch.sigmoid(twice)
    slope: Tensor = share + z * steep * share * torch.sigmoid(-twice)
    return slope


# What ONNX Runtime's CPU kernels may be off, for an exact float32 argument: 6 to 11 times the
# largest error over a dense sample of all float32 numbers (3.1e-7 for Tanh, 1.6e-7 for Sigmoid,
# 8.3e-8 beyond the relative part for GELU, 7.8e-7 for the one by tanh; the same for both written
# with Erf or Tanh). An assumption about the runtime, like the absence of Winograd convolutions; the
# tests measure it again.
TANH = Smooth(
    "Tanh",
    (torch.tanh, lambda z: 1 - torch.tanh(z) ** 2),
    inflections=(0.0,),
    rising=(True, False),
    limits=(0.0, 0.0),
    turning=(),
    errors=(0.0, 2.0**-19),
)
SIGMOID = Smooth(
    "Sigmoid",
    (torch.sigmoid, _sigmoid_slope),
    inflections=(0.0,),
    rising=(True, False),
    limits=(0.0, 0.0),
    turning=(),
    errors=(0.0, 2.0**-20),
)
GELU = Smooth(
    "Gelu",
    (_gelu, _gelu_slope),
    inflections=(-math.sqrt(2), math.sqrt(2)),
    rising=(False, True, False),
    limits=(0.0, 1.0),
    turning=(-0.7517915246935645,),
    errors=(2.0**-21, 2.0**-20),
)
# Its slope turns where ``u' + z u'' / 2 = z tanh(u) u'^2``, once on either side of zero.
TANH_GELU = Smooth(
    "Gelu by tanh",
    (_tanh_gelu, _tanh_gelu_slope),
    inflections=(-1.418504008790828, 1.418504008790828),
    rising=(False, True, False),
    limits=(0.0, 1.0),
    turning=(-0.7524614220710161,),
    errors=(2.0**-21, 2.0**-17),
)
