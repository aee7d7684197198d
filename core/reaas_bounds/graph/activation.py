"""Entrywise functions between affine maps: their values, their slopes, the image of an interval."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy

import torch
from torch import Tensor


class Entrywise(ABC):
    """A function applied to every entry by itself.

    Attributes:
        name: the ONNX operator, for messages.
        low, high: every difference quotient lies in [low, high]; broadcastable to one activation
            (scalars, or one number per channel).
        turning: points besides the ends where an interval may have its smallest or largest value.
        relative_error, argument_error, absolute_error: the float32 value that ONNX Runtime
            computes for an exact float32 argument z is within ``relative_error |value| +
            argument_error |z| + absolute_error``, per entry.
    """

    name: str
    low: Tensor
    high: Tensor
    turning: tuple[float, ...] = ()
    relative_error: float = 0.0
    argument_error: float = 0.0
    absolute_error: float = 0.0

    @abstractmethod
    def value(self, z: Tensor) -> Tensor:
        """The function at ``z`` [n, *shape]."""

    @abstractmethod
    def derivative(self, z: Tensor) -> Tensor:
        """Its slope at ``z``; one of the two at a kink."""

    @abstractmethod
    def bends(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where the function is no straight line on [lower, upper] (bool [n, *shape])."""

    @abstractmethod
    def cast(self, dtype: torch.dtype) -> Entrywise:
        """The same with parameters of another type."""

    def to(self, device: torch.device) -> Entrywise:
        """The same with parameters on another device."""
        moved = copy(self)
        for name in ("low", "high", *vars(self)):
            if isinstance(value := getattr(self, name), Tensor):
                setattr(moved, name, value.to(device))
        return moved

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest value on [lower, upper], each [n, *shape]."""
        ends = self.value(lower), self.value(upper)
        smallest, largest = torch.minimum(*ends), torch.maximum(*ends)
        for point in self.turning:
            inside = (lower < point) & (point < upper)
            there = self.value(torch.full_like(lower, point))
            smallest = torch.where(inside, torch.minimum(smallest, there), smallest)
            largest = torch.where(inside, torch.maximum(largest, there), largest)
        return smallest, largest

    @property
    def centre(self) -> Tensor:
        """C of the averaged form: a change is ``C t + R e``, ``|e| <= |t|``."""
        return (self.low + self.high) / 2

    @property
    def spread(self) -> Tensor:
        """R of the averaged form, >= 0."""
        return (self.high - self.low) / 2

    @property
    def slopes(self) -> tuple[float, float]:
        """The range of slopes over all channels."""
        return float(self.low.min()), float(self.high.max())

    @property
    def gain(self) -> float:
        """Lipschitz constant of the function."""
        low, high = self.slopes
        return max(-low, high)


class TwoSlope(Entrywise):
    """``z`` above zero, ``alpha z`` below: ReLU (0), LeakyRelu, PRelu, Abs (-1), identity (1).

    ``alpha`` is a scalar or one number per channel, [C, 1, 1]; ``sigma(z) = alpha z + (1 - alpha)
    relu(z)`` carries every fact about ReLU over.
    """

    turning = (0.0,)

    def __init__(self, alpha: Tensor, name: str) -> None:
        self.alpha, self.name = alpha, name
        self.low, self.high = alpha.clamp_max(1.0), alpha.clamp_min(1.0)
        self._cut_off = bool((alpha == 0).all())
        # One product, unless it is exact.
        exact = bool(((alpha == 0) | (alpha.abs() == 1)).all())
        self.relative_error = 0.0 if exact else 2.0**-23

    def value(self, z: Tensor) -> Tensor:
        """``max(z, 0) + alpha min(z, 0)``."""
        above = torch.relu(z)
        return above if self._cut_off else above + self.alpha * z.clamp_max(0.0)

    def derivative(self, z: Tensor) -> Tensor:
        """1 above zero, else alpha."""
        return torch.where(z > 0, torch.ones_like(z), self.alpha.to(z.dtype))

    def bends(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where the kink lies inside."""
        return (lower < 0) & (upper > 0) & (self.alpha != 1)

    def cast(self, dtype: torch.dtype) -> TwoSlope:
        """The same with alpha of another type."""
        return TwoSlope(self.alpha.to(dtype), self.name)


RELU = TwoSlope(torch.zeros((), dtype=torch.float64), "Relu")


class Clip(Entrywise):
    """``min(max(z, least), most)``: Clip, ReLU6; a limit may be infinite. Exact in float32."""

    low = torch.zeros((), dtype=torch.float64)
    high = torch.ones((), dtype=torch.float64)
    name = "Clip"

    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most

    def value(self, z: Tensor) -> Tensor:
        """``min(max(z, least), most)``."""
        return z.clamp(self.least, self.most)

    def derivative(self, z: Tensor) -> Tensor:
        """1 between the limits, else 0."""
        return ((z > self.least) & (z < self.most)).to(z.dtype)

    def bends(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Where a limit lies inside."""
        at_least = (lower < self.least) & (upper > self.least)
        return at_least | ((lower < self.most) & (upper > self.most))

    def change(self, z: Tensor, t: Tensor) -> Tensor:
        """``value(z + t) - value(z)``, exact where z lies between the limits."""
        down, up = self.least - z, self.most - z
        zero = torch.zeros_like(z)
        return t.clamp(down, up) - zero.clamp(down, up)

    def nearest(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(v, sign): around the nearer limit the function is ``sign relu(sign t + v)`` and more.

        Up to a constant; v [n, *shape] is the distance to the limit, sign 1 at the lower one.
        """
        below = z - self.least <= self.most - z
        return torch.where(below, z - self.least, self.most - z), below.to(z.dtype) * 2 - 1

    def cast(self, dtype: torch.dtype) -> Clip:
        """Its limits are numbers, exact in any type."""
        return self
