"""Row constants of any row, from Gram matrices that are made once for a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from reaas_bounds.bounds.row_constant import (
    ROUNDING,
    averaged_rows,
    reach,
    rounded_rows,
    row_constants,
)
from reaas_bounds.graph.network import Network

# Entries of all coordinates' rows at one layer, at most: 1 GiB. Beyond, rows are pulled back.
LARGEST = 2**27

RowConstants = Callable[[Tensor], Tensor]
_known: WeakKeyDictionary[Network, RowConstants] = WeakKeyDictionary()


def row_constants_of(network: Network) -> RowConstants:
    """``row_constants`` of one network, rows [m, d] -> constants [m], for many calls.

    The first call for a network pulls d rows back; after it a row costs a few products with
    matrices of d x d.
    """
    known = _known.get(network)
    if known is None:
        widest = max(math.prod(node.shape) for node in network.folded.nodes)
        if widest * network.feature_dim <= LARGEST:
            known = RowGrams.of(network).constants
        else:
            known = partial(row_constants, network)
        _known[network] = known
    return known


@dataclass(frozen=True, eq=False)
class RowGrams:
    """``M M^T`` for every matrix M [d, size] whose product with a row c is in its constant.

    The rows of ``row_constants`` are pulled back with slopes that depend on nothing, so they are
    linear in c: ``p_k R = c M_k``, ``q = c M_0``, and ``||c M||^2 = c (M M^T) c``.

    Attributes:
        grams: [k, d, d], those of the activations times ``Q^2``, then that of the image.
        traces: [k], of the same.
        hidden: [d], what rounding may hide of the pulled back coordinates, per unit of ``||d||``.
    """

    grams: Tensor
    traces: Tensor
    hidden: Tensor

    @classmethod
    def of(cls, network: Network) -> RowGrams:
        """Pull every coordinate of the feature back, once."""
        basis = torch.eye(network.feature_dim, dtype=torch.float64, device=network.device)
        known = reach(network)
        grams: list[Tensor] = []
        sizes: dict[int, Tensor] = {}

        def meet(index: int, rows: Tensor, worst: Tensor, budget: float) -> None:
            sizes[index] = rows.flatten(1).norm(dim=1)  # [d]
            scaled = worst.flatten(1) * budget  # [d, size]
            grams.append(scaled @ scaled.T)

        image = averaged_rows(network, known, basis, meet).flatten(1)  # [d, C h w]
        grams.append(image @ image.T)
        made = torch.stack(grams)  # [k, d, d]
        hidden = rounded_rows(network, known, basis.norm(dim=1), sizes)
        return cls(made, made.diagonal(dim1=1, dim2=2).sum(1), hidden)

    def constants(self, rows: Tensor) -> Tensor:
        """Per row c of ``rows`` [m, d] an upper bound of its own constant, [m]; deterministic.

        Theorem: that of ``row_constants``. Rounding: the inner products of a Gram matrix have at
        most 2^18 terms, so what is computed for ``||c M||^2`` is within ``ROUNDING ||c||^2
        tr(M M^T)`` of it; what rounding hides of coordinate i counts ``|c_i|`` times.
        """
        squared = ((rows @ self.grams) * rows).sum(2)  # [k, m]
        off = ROUNDING * self.traces[:, None] * rows.square().sum(1)  # [k, m]
        lengths = (squared.clamp_min(0) + off).sqrt().sum(0)  # [m]
        total: Tensor = lengths + rows.abs() @ self.hidden
        return total * (1 + ROUNDING)
