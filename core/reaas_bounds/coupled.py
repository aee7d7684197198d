"""Certificates of networks with products of activations: by their constants around the image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.region import Region
from reaas_bounds.coupled_error import Centre, RegionError
from reaas_bounds.graph.network import Network
from reaas_bounds.grid import Grid
from reaas_bounds.margin_query import CertifiedMargin, MarginMethod, MarginOptions, MarginSets
from reaas_bounds.margin_set import in_units
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions, rounded_down

# Rounding of the few sums and quotients of a question, relative.
_MARGIN = 1e-11
Stop = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """An image and the balls around it."""

    region: Region
    centre: Centre

    @classmethod
    def of(cls, network: Network, x: Tensor) -> Surroundings:
        """Of ``x`` [1, C, H, W], float64 on the CPU."""
        return cls(Region.around(network, x, 0.0), Centre.of(network, x))

    def used(self, radius: float) -> float:
        """How far float32 features of images within ``radius`` can lie from the image's own.

        Theorem: ``||g(x') - g(x)|| <= L r + 2 e`` with L the network's constant on the ball and e a
        bound of the float32 error on it. Both are made for the ball of this radius.
        """
        region = self.region.within(radius)
        moved = region.constant * radius if radius else 0.0
        total = (moved + 2 * RegionError(region, self.centre).value) * (1 + _MARGIN)
        return math.inf if math.isnan(total) else total

    def search(self, allowed: float, options: SearchOptions, stop: Stop) -> CertifiedRadius:
        """The largest radius of the grid within which ``used`` is at most ``allowed``."""
        grid = Grid.within(options.relative_tolerance)
        steps = _Steps(self, grid, allowed, options.max_steps, stop)
        spare = allowed - self.used(0.0)
        if not spare > 0.0:
            return CertifiedRadius(0.0, Method.LIPSCHITZ, 0.0, 1, converged=True)
        slope = self.region.constant  # at the image itself: a larger radius is out of reach
        limit = min(spare / slope, 2.0**64) if slope > 0 else 2.0**64
        return steps.down_from(grid.below(limit))


@dataclass
class _Steps:
    """Evaluations of one search."""

    around: Surroundings
    grid: Grid
    allowed: float
    left: int
    stop: Stop
    taken: int = 1

    def down_from(self, index: int) -> CertifiedRadius:
        """Steps of growing length down to the first index that passes, then halves of the rest."""
        passed, failed, jump = None, index + 1, 1
        while self.left > 0 and not self.stop():
            if passed is not None and failed == passed + 1:
                break
            probe = (passed + failed) // 2 if passed is not None else failed - jump
            if self.grid.radius(probe) < self.grid.radius(-_DEEPEST * self.grid.per_octave):
                return CertifiedRadius(0.0, Method.LIPSCHITZ, 0.0, self.taken, converged=True)
            if self._passes(probe):
                passed = probe
            else:
                failed, jump = probe, 2 * jump
        done = passed is not None and failed == passed + 1
        radius = 0.0 if passed is None else rounded_down(self.grid.radius(passed))
        upper = self.grid.radius(failed)
        return CertifiedRadius(radius, Method.LIPSCHITZ, upper, self.taken, done)

    def _passes(self, index: int) -> bool:
        self.taken, self.left = self.taken + 1, self.left - 1
        return self.around.used(self.grid.radius(index)) <= self.allowed


# Octaves below 1: float32 pixels are further apart than radii below.
_DEEPEST = 64


def certify_coupled_balls(
    network: Network, x: Tensor, feature_radii: Tensor, options: SearchOptions, stop: Stop
) -> list[CertifiedRadius]:
    """``certify_ball`` for networks with products of activations; deterministic.

    Theorem: ``Surroundings.used(r) <= R'``, r by r: the constants hold on the ball of the answer,
    whatever range its pixels have. Every method is answered so.
    """
    return [
        Surroundings.of(network, image[None]).search(radius * (1 - _MARGIN), options, stop)
        for image, radius in zip(x, feature_radii.tolist(), strict=True)
    ]


def certify_coupled_margins(
    network: Network, x: Tensor, margins: MarginSets, options: MarginOptions, stop: Stop
) -> list[CertifiedMargin]:
    """``certify_margins`` for networks with products of activations; deterministic.

    Theorem: ``|a . (g(x') - g(x))| <= ||a|| used(r)``, so a row holds where that is below its
    margin, and the best set is the one with the largest of its smallest margins.
    """
    found = []
    parts = zip(x, margins.normals, margins.offsets, margins.within, strict=True)
    for image, normals, offsets, within in parts:
        _, units, _ = in_units(normals, offsets)  # [s, m]
        smallest, rows = units.min(1)
        allowed = torch.minimum(smallest, within)
        best = int(allowed.argmax())
        row = None if float(within[best]) < float(smallest[best]) else int(rows[best])
        method = Method.LIPSCHITZ if row is None else MarginMethod.LIPSCHITZ
        most = float(allowed[best])
        if math.isinf(most):
            answer = CertifiedRadius(math.inf, Method.LIPSCHITZ, math.inf, 0, converged=True)
        else:
            around = Surroundings.of(network, image[None])
            answer = around.search(most * (1 - _MARGIN), options.search, stop)
        found.append(
            CertifiedMargin(answer.radius, method, best, row, answer.steps, answer.converged)
        )
    return found
