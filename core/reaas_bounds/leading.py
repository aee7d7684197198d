"""Bounds the size of a convolution with absolute weights at the price of one output channel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.graph.maps import Convolution
from reaas_bounds.norms.matrix import eigenvectors, gamma, largest_eigenvalue_bound

# With fewer channels the convolution itself costs as little; with longer kernels the proof takes
# longer (it grows with the cube) than the service has at start.
FEWEST_CHANNELS = 8
LONGEST_KERNEL = 2048
# Norms of weights between which float32 holds the squares of this form.
_SMALLEST, _LARGEST = 2.0**-30, 2.0**30


@dataclass(frozen=True, eq=False)
class LeadingForm:
    """``|| |W| h ||^2`` at each pixel is at most ``(leading * h)^2 + rest * sum_c h_c^2``.

    ``*`` is the convolution; leading [1, i, kh, kw], rest [1, 1, kh, kw], float32. For h >= 0.
    Theorem: with A the matrix of |W| and p a patch of h, ``||A p||^2 = p^T A^T A p`` and
    ``A^T A <= a v v^T + b I`` for any a and v as soon as b is at least the largest eigenvalue of
    ``A^T A - a v v^T``, which a Cholesky factorisation proves. Here v is the leading singular
    vector; absolute weights have one far above the others, so that little is lost.

    ``lost``: what underflow of the squares may hide of the norm at one pixel. Where entries of h
    or their sum are below 2^-63, their squares may become 0.
    """

    convolution: Convolution
    leading: Tensor
    rest: Tensor
    lost: float

    @classmethod
    def of(cls, convolution: Convolution) -> LeadingForm | None:
        """None where the convolution itself costs less, or its squares leave float32's range."""
        kernel = convolution.weight.shape
        length = kernel[1:].numel()
        few = kernel[0] < FEWEST_CHANNELS or length > LONGEST_KERNEL
        if few or convolution.groups > 1:
            return None
        matrix = convolution.weight.abs().flatten(1)  # A [o, k]
        norm = float(matrix.norm())
        if not _SMALLEST <= norm <= _LARGEST:
            return None
        left, values = _two_leading(matrix)
        direction = (left @ matrix / values[0]).clamp_min(0.0)  # v [k]
        size = (values[0] ** 2 - values[1] ** 2).clamp_min(0.0)
        remainder = matrix.T @ matrix - size * torch.outer(direction, direction)
        rounding = gamma(kernel[0] + 4) * (norm**2 + 2 * float(size))
        bound = largest_eigenvalue_bound(remainder) + rounding
        leading = size.sqrt() * direction.reshape(1, *kernel[1:])
        rest = torch.full((1, 1, *kernel[2:]), bound)
        lost = 2.0**-62 * (1 + math.sqrt(length)) * (1 + norm)
        return cls(convolution, leading.float(), rest.float(), lost)

    def squares(self, h: Tensor) -> Tensor:
        """The bound at each pixel, [n, 1, H', W'], for h [n, i, H, W] float32."""
        leading = self._convolved(h, self.leading)
        return leading.square_().add_(self._convolved(h.square().sum(1, keepdim=True), self.rest))

    def _convolved(self, h: Tensor, kernel: Tensor) -> Tensor:
        c, shape = self.convolution, (h.shape[1], *self.convolution.input_shape[1:])
        return Convolution(kernel, shape, c.stride, c.pads, c.dilation).apply(h)


def _two_leading(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Leading left singular vector [o] and the two largest singular values [2]."""
    squares, vectors = eigenvectors(matrix @ matrix.T)
    values = squares[-2:].flip(0).clamp_min(0.0).sqrt()
    return vectors[:, -1] * vectors[:, -1].sum().sign(), values.clamp_min(1e-300)
