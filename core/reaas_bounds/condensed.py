"""Encoders of resized images, asked about the small image that the resize leaves of a large one.

What a resize throws away moves no feature. Bounds that pull rows back to the image would carry it
along for every row: gigabytes for an image of 256x256 in front of an encoder of 32x32.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reaas_bounds.bounds.lipschitz import lipschitz_constant
from reaas_bounds.graph.network import Network, SeparableResize

# Added to the Gram matrix, relative to its trace: far above the rounding of the matrix and of its
# Cholesky factor (gamma_n of n = 2,000 is 2e-13), far below what anybody sees of a radius.
_RIDGE = 1e-10
# Rounding of four products with sides of 256 (gamma_n of n = 1,024 is 1e-13), in units of Frobenius
# norms, with room. Solves need none: what they leave is measured.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Condensed:
    """``g`` behind ``M = (rows, cols)`` in place of ``g`` behind the resize ``R``; images y for x.

    Theorem: ``R R^T <= M M^T`` (as quadratic forms), so by Douglas' lemma every change ``R d`` of
    the encoder's input is ``M w`` for a w with ``||w|| <= ||d||``. With y any image,
    ``||f(x + d) - f(x)|| <= ||g(M y + M w) - g(M y)|| + 2 L ||R x - M y||``, L the constant of g:
    what is certified around y within r, with ``loss = 2 L ||R x - M y||`` less allowed, holds
    around x within r. A constant of ``y -> g(M y)`` is one of f, as it stands.
    """

    network: Network
    resize: SeparableResize
    rows: Tensor
    cols: Tensor
    constant: float

    def at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The images y [n, C, H', W'] for images x [n, C, h, w], and their ``loss`` [n]; float64.

        Each image by itself: its bits do not depend on the others.
        """
        parts = [self._one(image) for image in x]
        if not parts:
            return x.new_zeros(0, *self.network.input_shape), x.new_zeros(0)
        return torch.stack([y for y, _ in parts]), torch.stack([loss for _, loss in parts])

    def _one(self, x: Tensor) -> tuple[Tensor, Tensor]:
        left, right = (torch.tensor(part) for part in (self.resize.rows, self.resize.cols))
        small = left @ x @ right.T  # R x [C, H, W]
        y = torch.linalg.solve_triangular(self.rows, small, upper=False)
        y = torch.linalg.solve_triangular(self.cols, y.mT, upper=False).mT
        off = (small - self.rows @ y @ self.cols.T).norm()
        rounding = left.norm() * right.norm() * x.norm()
        rounding = rounding + self.rows.norm() * self.cols.norm() * y.norm()
        loss: Tensor = 2 * self.constant * (off + _ROUNDING * rounding)
        return y, loss


_known: WeakKeyDictionary[Network, Condensed] = WeakKeyDictionary()


def condensed(network: Network) -> Condensed | None:
    """``network`` on small images, where a resize in front makes large ones small; remembered.

    None: there is none, or it makes small images large. Deterministic.
    """
    if network.resized is None:
        return None
    base, (first, *rest) = network.resized
    if not isinstance(first, SeparableResize) or not _shrinks(first):
        return None
    if network not in _known:
        resize = SeparableResize(_factor(first.rows), _factor(first.cols))
        small = base.with_input([resize, *rest])
        behind = base.with_input(rest).before
        constant = lipschitz_constant(behind.folded, behind.norms).value
        sides = (torch.tensor(resize.rows), torch.tensor(resize.cols))
        _known[network] = Condensed(small.before, first, *sides, constant)
    return _known[network]


def _shrinks(resize: SeparableResize) -> bool:
    """Whether both sides become smaller, or one does and the other stays."""
    sides = (resize.rows.shape, resize.cols.shape)
    return all(out <= size for out, size in sides) and any(out < size for out, size in sides)


def _factor(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A lower triangular L with ``A A^T <= L L^T``, hardly above it, for A [out, in]."""
    gram = matrix @ matrix.T
    ridge = _RIDGE * np.trace(gram) * np.eye(len(gram))
    return np.ascontiguousarray(np.linalg.cholesky(gram + ridge))
