"""One set of margins around one image: what the bounds say about its rows and its ball."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reaas_bounds.bounds.envelope import Local, quadratic_envelope
from reaas_bounds.bounds.exclusion import ABSOLUTE_SLACK, RELATIVE_SLACK
from reaas_bounds.bounds.multipliers import search_multipliers
from reaas_bounds.bounds.row_constant import ROUNDING
from reaas_bounds.bounds.row_gram import row_constants_of
from reaas_bounds.bounds.searched import Image
from reaas_bounds.bounds.searched_rows import Shares
from reaas_bounds.condensed import condensed
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.graph.network import Network
from reaas_bounds.margin_query import MarginSets
from reaas_bounds.rounding import float32_error_at, float32_row_error_at

# Margins in units of ||a||, and radii, beyond this are cut off: squares of them must not overflow.
HUGE = 1e30
# Rounding of a margin's division, of the norm and of the subtraction, relative.
_DIVISION = 1e-12


@dataclass(frozen=True, eq=False)
class Point:
    """One image x [1, C, h, w] and what all sets of margins around it share."""

    network: Network
    constants: CertifiedConstants
    x: Tensor
    error: float
    """Of the float32 feature of x; for balls only."""
    asked: tuple[Network, Tensor]
    """The network and the image in question; ``network`` and ``x`` are what a resize leaves."""

    @cached_property
    def local(self) -> Local:
        """The network at the image."""
        return Local.of(self.network, self.x)

    @cached_property
    def image(self) -> Image:
        """The image as searches see it."""
        return Image(self.network, self.x)

    @cached_property
    def values_float32(self) -> list[Tensor]:
        """Values of the nodes at the image, for the search."""
        return [value.float() for value in self.local.values]

    def pushed(self, direction: Tensor, radius: float) -> tuple[Tensor, float]:
        """Change [d] of the feature by a step of ``radius`` along the gradient of ``direction``.

        ``direction`` [d]. In float32; and how far that may be off, beside ``RELATIVE_SLACK``.
        """
        graph = self.network.folded_float32
        x = self.x.float().requires_grad_()
        feature = graph.forward(x)[0]  # [d]
        slope = torch.autograd.grad(feature @ direction, x)[0]  # [1, C, h, w]
        with torch.no_grad():
            step = slope * (radius / slope.norm().clamp_min(torch.finfo(slope.dtype).tiny))
            moved = graph.forward(x + step)[0] - feature
        return moved, ABSOLUTE_SLACK * float(feature.detach().norm())

    def ball_radius(self, within: float) -> float:
        """What the constant alone certifies for a ball of radius ``within``."""
        if math.isinf(within):
            return math.inf
        slope = (self.constants.lipschitz + self.constants.float32_slope) * (1 + ROUNDING)
        room = (within - 2 * self.error) * (1 - _DIVISION)
        return max(room, 0.0) / slope if slope > 0 else math.inf


@dataclass(frozen=True, eq=False)
class MarginSet:
    """Rows ``c = -a / ||a||`` [m, d] around a point, and margins in the same unit.

    ``margins`` [m]: what is left of them after the float32 error of both features at r = 0.
    ``within``: radius of the feature ball in which the set says something.
    """

    point: Point
    rows: Tensor
    margins: list[float]
    within: float

    @cached_property
    def constant_radii(self) -> list[float]:
        """What the constants of the rows alone certify, each by itself."""
        constants = self.point.constants
        own = row_constants_of(self.point.network)(self.rows)  # [m]
        slopes = own.clamp_max(constants.lipschitz) + constants.float32_slope
        return [
            math.inf if math.isinf(margin) or not slope > 0 else max(margin, 0.0) / slope
            for margin, slope in zip(self.margins, (slopes * (1 + ROUNDING)).tolist(), strict=True)
        ]

    @cached_property
    def ball_radius(self) -> float:
        """What the constant alone certifies for the ball."""
        return self.point.ball_radius(self.within)

    def envelope_radius(self, row: int, target: float, steps: int) -> float:
        """What the envelope that is built for radius ``target`` certifies."""
        point, direction = self.point, self.rows[row : row + 1]
        chosen = search_multipliers(
            point.network.folded_float32,
            point.values_float32,
            direction.float(),
            point.local.reach,
            target,
            steps,
        )
        envelope = quadratic_envelope(point.local, direction, chosen)
        return envelope.with_slope(point.constants.float32_slope).radius(self.margins[row])

    @property
    def shares(self) -> Shares:
        """The rows as a search sees them, whose margins are all positive."""
        margins = self.rows.new_tensor(self.margins) * (1 - _DIVISION)
        return Shares(self.rows, margins, self.point.constants.float32_slope * (1 + ROUNDING))

    def may_hold(self, radius: float) -> bool:
        """Whether CROWN may certify all rows within ``radius``: decides effort only."""
        moved = self.point.image.optimistic.rows(self.rows, radius)
        shares = self.shares
        return float(shares.largest(moved, moved.new_tensor([radius]))) <= 1.0

    def is_lost(self, row: int, radius: float) -> bool:
        """Whether an image within ``radius`` breaks the row: then no bound certifies the radius.

        One step along the gradient, in float32 and with a slack: it decides where to spend
        effort, never what is certified.
        """
        direction = self.rows[row].float()
        moved, slack = self.point.pushed(direction, radius)
        return float(moved @ direction) * (1 - RELATIVE_SLACK) - slack > self.margins[row]

    def ball_is_lost(self, radius: float) -> bool:
        """Whether an image within ``radius`` leaves the ball; as ``is_lost``, in two steps."""
        moved, _ = self.point.pushed(self.rows.sum(0).float(), radius)
        moved, slack = self.point.pushed(moved, radius)
        return float(moved.norm()) * (1 - RELATIVE_SLACK) - slack > self.within


def sets_around(
    network: Network, constants: CertifiedConstants, inputs: Tensor, margins: MarginSets
) -> list[list[MarginSet]]:
    """The sets of every image [n, C, h, w], rows and margins in units of ``||a||``."""
    if not len(inputs):
        return []
    parts = zip(margins.normals, margins.offsets, strict=True)
    scaled = [in_units(normals, offsets) for normals, offsets in parts]
    rows = torch.stack([row for row, _, _ in scaled])  # [n, s, m, d]
    row_errors = float32_row_error_at(network, inputs, rows.flatten(1, 2))  # [n, s * m]
    errors = torch.zeros(len(inputs), dtype=torch.float64)
    if bool(margins.within.isfinite().any()):
        errors = float32_error_at(network, inputs)
    small, loss, images = network, torch.zeros(len(inputs), dtype=torch.float64), inputs
    if (found := condensed(network)) is not None:
        small, (images, loss) = found.network, found.at(inputs)
    around = []
    for index, (row, units, free) in enumerate(scaled):
        # Both features of a row have its float32 error.
        off = 2 * row_errors[index].view_as(units)  # [s, m]
        off = off + loss[index]
        left = torch.where(free, units, (units - off) - _DIVISION * (units.abs() + off))
        one = slice(index, index + 1)
        image, asked = images[one].to(network.device), (network, inputs[one])
        point = Point(small, constants, image, float(errors[index]), asked)
        each = zip(
            row.to(network.device), left.tolist(), margins.within[index].tolist(), strict=True
        )
        around.append([MarginSet(point, *parts) for parts in each])
    return around


def in_units(normals: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``-a / ||a||`` [s, m, d] and margins ``m / ||a||`` [s, m]; which rows are zero [s, m].

    Of those the margin is infinite if it is positive, else 0.
    """
    largest = normals.abs().amax(2, keepdim=True)  # [s, m, 1]
    scaled = normals / torch.where(largest > 0, largest, 1.0)
    sizes = scaled.norm(dim=2, keepdim=True).clamp_min(1.0)  # a row of zeros stays one
    units = offsets / sizes[..., 0] / largest[..., 0].clamp_min(1 / HUGE)
    free, met = largest[..., 0] == 0, torch.where(offsets > 0, torch.inf, 0.0).to(units)
    return -scaled / sizes, torch.where(free, met, units.clamp_max(HUGE)), free
