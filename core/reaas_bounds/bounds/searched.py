"""The bounds whose radius is searched for, as the search sees them: one image, one radius."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Centre
from reaas_bounds.bounds.crown import crown
from reaas_bounds.bounds.crown_joint import crown_joint
from reaas_bounds.bounds.ibp import ibp_bound
from reaas_bounds.bounds.linearisation import Linearisation
from reaas_bounds.bounds.optimistic import Optimistic
from reaas_bounds.graph.network import Network

# IBP's slope at r = 0 is taken at this radius: no neuron near its kink is that near.
TINY = 2.0**-20


class Bound(Protocol):
    """A bound of one image, made for one radius; holds for every smaller one."""

    def at(self, radius: Tensor) -> Tensor:
        """``B(r)`` [1] for ``radius`` [1]."""


@dataclass(frozen=True, eq=False)
class Image:
    """One image [1, C, h, w] in both precisions, each linearised at most once."""

    network: Network
    x: Tensor

    @cached_property
    def exact(self) -> Centre:
        """In float64: certifies."""
        return Centre.of(self.network, self.x)

    @cached_property
    def estimated(self) -> Centre:
        """In float32: says where to look."""
        return Centre.of(self.network, self.x.float())

    @cached_property
    def optimistic(self) -> Optimistic:
        """In float32: says what is not worth an evaluation."""
        return Optimistic.of(self.network, self.x)

    @cached_property
    def tangents(self) -> Linearisation:
        """In float64."""
        return Linearisation.of(self.exact)

    @cached_property
    def estimated_tangents(self) -> Linearisation:
        """In float32."""
        return self.tangents.single(self.estimated.graph)


Make = Callable[[Image, Tensor], Bound]
"""Makes a bound of an image for one radius [1]."""


@dataclass(frozen=True)
class Searched:
    """One of the bounds.

    ``certify`` makes it for one radius, in float64; ``estimate`` the same in float32, which
    certifies nothing. ``steepness`` is its slope at r = 0; for the first guess, the bound is
    expected to reach an allowance when it is ``growth`` times as steep.
    """

    certify: Make
    estimate: Make
    steepness: Callable[[Image], float]
    growth: Callable[[Image, float], float]


@dataclass(frozen=True, eq=False)
class _Constant:
    """IBP's bound for one radius, at every smaller one."""

    value: Tensor

    def at(self, radius: Tensor) -> Tensor:
        """``B(r)`` [1]."""
        return self.value


def _interval_steepness(image: Image) -> float:
    return float(ibp_bound(image.exact, image.x.new_tensor([TINY]))) / TINY


def _crown_growth(image: Image, allowance: float) -> float:
    """Fitted to the shipped encoders; for feature radii of the feature's own size it ends."""
    size = float(image.exact.values[-1].norm())
    share = max(allowance, 0.0) / size if size > 0 else 1.0
    return math.exp(1.6 * min(share, 1.0) ** 0.65)


IBP = Searched(
    certify=lambda image, radius: _Constant(ibp_bound(image.exact, radius)),
    estimate=lambda image, radius: _Constant(ibp_bound(image.estimated, radius.float())),
    steepness=_interval_steepness,
    growth=lambda image, allowance: 1.25,
)
CROWN = Searched(
    certify=lambda image, radius: crown(image.exact, image.tangents, radius),
    estimate=lambda image, radius: crown(image.estimated, image.estimated_tangents, radius.float()),
    steepness=lambda image: float(torch.linalg.vector_norm(image.tangents.features.image)),
    growth=_crown_growth,
)
CROWN_JOINT = Searched(
    certify=lambda image, radius: crown_joint(image.exact, radius),
    estimate=lambda image, radius: crown_joint(image.estimated, radius.float()),
    steepness=lambda image: float(torch.linalg.matrix_norm(image.tangents.features.image, 2)),
    growth=lambda image, allowance: 2.0,
)
