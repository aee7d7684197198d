"""Standardisation of groups of entries: layer, instance and group normalisation at heart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.coupling.coupling import Coupling
from reaas_bounds.graph.coupling.reached import RELATIVE, Reached
from reaas_bounds.graph.window import Shape

UNIT_32 = 2.0**-24
# Squares that are no float32 number, or no normal one.
_LARGEST, _SMALLEST = 2.0**126, 2.0**-126
# Roundings beside those of the sums: differences, a square, a root, a quotient, a product.
_FURTHER = 8


class Standardisation(Coupling):
    """``(z - mean) / sqrt(variance + epsilon)`` of each group of ``length`` neighbours.

    Theorem: with P the projection that takes the mean off, ``y = P z / s`` and ``s^2 = ||P z||^2 /
    m + epsilon``, the Jacobian is ``(I - y y^T / m) P / s``. As ``||y||^2 <= m`` its norm is at
    most ``1 / s``; and ``||P z||`` falls by no more than z moves. So ``1 / sqrt(epsilon)`` holds
    everywhere, and ``1 / s`` nearly where the variance is known to stay.
    """

    def __init__(self, shape: Shape, length: int, epsilon: float, name: str) -> None:
        self.shape, self.length, self.epsilon, self.name = shape, length, epsilon, name

    def value(self, *inputs: Tensor) -> Tensor:
        """The standardised groups."""
        groups = inputs[0].reshape(len(inputs[0]), -1, self.length)
        apart = groups - groups.mean(2, keepdim=True)
        variance = apart.square().mean(2, keepdim=True)
        found: Tensor = (apart / (variance + self.epsilon).sqrt()).reshape(inputs[0].shape)
        return found

    def gains(self, *inputs: Reached) -> tuple[float, ...]:
        """``1 / s``, the largest of all groups."""
        least = float(self._least_squares(inputs[0]).min())
        return ((1 + RELATIVE) / math.sqrt(least),)

    def image(self, *inputs: Reached) -> tuple[Tensor, Tensor]:
        """No entry of a group of m lies further than ``sqrt(m - 1)`` deviations from its mean."""
        most = math.sqrt(max(self.length - 1, 0)) * (1 + RELATIVE)
        whole = torch.full_like(inputs[0].centre, most)
        return -whole, whole

    def rounding(self, *inputs: Reached) -> float:
        """Infinite where float32 may lose the variance altogether.

        Whether the kernel takes the mean of squares less the squared mean or not, its variance is
        off by at most ``4 gamma_{m + 8}`` of the mean square q^2, and the mean by ``gamma_m q``.
        """
        unit = (self.length + _FURTHER) * UNIT_32
        unit = unit / (1 - unit)
        least = self._least_squares(inputs[0])  # [g]
        square = self._mean_squares(inputs[0])  # [g]
        relative = (4 * unit * square + 8 * _SMALLEST) / least + _FURTHER * UNIT_32
        overflows = bool((square * self.length >= _LARGEST).any())
        if overflows or not bool((relative <= 0.5).all()):
            return math.inf
        shifted = 1.5 * (unit + _FURTHER * UNIT_32) * (square / least).sqrt()
        each = math.sqrt(self.length) * (shifted + relative)
        return float(each.norm()) * (1 + RELATIVE)

    def _least_squares(self, reached: Reached) -> Tensor:
        """Lower bounds of ``s^2``, [groups]."""
        groups = reached.centre.reshape(-1, self.length)
        apart = (groups - groups.mean(1, keepdim=True)).norm(dim=1)  # ||P z||
        left = (apart * (1 - RELATIVE) - reached.move).clamp_min(0.0)
        least: Tensor = left.square() / self.length * (1 - RELATIVE) + self.epsilon
        return least

    def _mean_squares(self, reached: Reached) -> Tensor:
        """Upper bounds of the mean square, [groups]."""
        groups = reached.centre.reshape(-1, self.length)
        by_move = (groups.norm(dim=1) + reached.move).square()
        by_size = reached.sizes.reshape(-1, self.length).square().sum(1)
        return torch.minimum(by_move, by_size) / self.length * (1 + RELATIVE)
