"""Rows whose radius is searched for, as the search sees them: one bound, one allowance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reaas_bounds.bounds.exclusion import pulled_through
from reaas_bounds.bounds.row_constant import ROUNDING
from reaas_bounds.bounds.row_interval import crown_rows, ibp_rows
from reaas_bounds.bounds.searched import TINY, Image, Searched


@dataclass(frozen=True, eq=False)
class Shares:
    """What m rows use up of their margins [m], if each also grows by ``slope r``.

    The margins are positive; an infinite one is never used up.
    """

    rows: Tensor
    margins: Tensor
    slope: float

    def largest(self, moved: Tensor, radius: Tensor) -> Tensor:
        """The largest share [1] for rows that move by ``moved`` [m] within ``radius`` [1]."""
        share = (moved + self.slope * radius) / self.margins
        return share.amax(0, keepdim=True) * (1 + ROUNDING)

    def single(self) -> Shares:
        """The same in float32."""
        return Shares(self.rows.float(), self.margins.float(), self.slope)


@dataclass(frozen=True, eq=False)
class _Used:
    """The largest share that a bound made for one radius leaves possible."""

    shares: Shares
    moved: Callable[[float], Tensor]

    def at(self, radius: Tensor) -> Tensor:
        """``B(r)`` [1]."""
        return self.shares.largest(self.moved(float(radius)), radius)


def crown_shares(shares: Shares) -> Searched:
    """CROWN's; holds all rows where it is at most 1."""
    single = shares.single()

    def certify(image: Image, radius: Tensor) -> _Used:
        return _Used(shares, crown_rows(image.exact, shares.rows, float(radius)).at)

    def estimate(image: Image, radius: Tensor) -> _Used:
        return _Used(single, crown_rows(image.estimated, single.rows, float(radius)).at)

    def steepness(image: Image) -> float:
        graph, values = image.estimated.graph, list(image.estimated.values)
        sizes = pulled_through(graph, values, single.rows).flatten(1).norm(dim=1)  # [m]
        return float((sizes / single.margins).max())

    return Searched(certify, estimate, steepness, growth=lambda image, one: 1.5)


def ibp_shares(shares: Shares) -> Searched:
    """That of interval propagation."""
    single = shares.single()

    def certify(image: Image, radius: Tensor) -> _Used:
        moved = ibp_rows(image.exact, shares.rows, float(radius))
        return _Used(shares, lambda _: moved)

    def estimate(image: Image, radius: Tensor) -> _Used:
        moved = ibp_rows(image.estimated, single.rows, float(radius))
        return _Used(single, lambda _: moved)

    def steepness(image: Image) -> float:
        moved = ibp_rows(image.exact, shares.rows, TINY)
        return float((moved / shares.margins).max()) / TINY

    return Searched(certify, estimate, steepness, growth=lambda image, one: 1.25)
