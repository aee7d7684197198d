"""Softmax along one axis."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.coupling.coupling import Coupling
from reaas_bounds.graph.coupling.reached import Reached
from reaas_bounds.graph.window import Shape

UNIT_32 = 2.0**-24
# Exponentials that float32 flushes to zero.
_FLUSHED = 1e-36


class Softmax(Coupling):
    """``e^z / sum e^z`` along ``axis`` of activations [*shape] (0: the first after the batch).

    Theorem: its Jacobian is ``diag(p) - p p^T``, whose absolute row sums are ``2 p_i (1 - p_i) <=
    1/2``; it is symmetric, so that is a bound of its norm (Gershgorin).
    """

    name = "Softmax"

    def __init__(self, shape: Shape, axis: int) -> None:
        self.shape, self.axis = shape, axis

    def value(self, *inputs: Tensor) -> Tensor:
        """The shares."""
        return torch.softmax(inputs[0], dim=self.axis + 1)

    def gains(self, *inputs: Reached) -> tuple[float, ...]:
        """One half."""
        return (0.5,)

    def image(self, *inputs: Reached) -> tuple[Tensor, Tensor]:
        """Between 0 and 1."""
        return torch.zeros_like(inputs[0].centre), torch.ones_like(inputs[0].centre)

    def rounding(self, *inputs: Reached) -> float:
        """``(2 n + 32) u`` for each sum of n, of shares whose norm is at most 1.

        The argument of an exponential is ``t = max - z`` less, off by 2 u t, and ``t e^-t < 0.37``;
        the sum is off by n u, exponential and division by a few u. An assumption about the kernel;
        the tests measure it.
        """
        length, whole = self.shape[self.axis], math.prod(self.shape)
        rows = whole // length
        return math.sqrt(rows) * (2 * length + 32) * UNIT_32 + _FLUSHED * math.sqrt(whole)
