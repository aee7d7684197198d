"""Rows that each live in a patch of their own: many neurons of a convolution in one batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution
from reaas_bounds.graph.window import Shape


@dataclass(frozen=True, eq=False)
class Patches:
    """Boxes of one size in planes of ``shape`` (C, H, W), one per row; rows are zero outside.

    ``top``, ``left`` [m]: their corners. A box may reach over the edge of the plane: what a row
    has there means nothing.
    """

    top: Tensor
    left: Tensor
    height: int
    width: int
    shape: Shape

    @cached_property
    def positions(self) -> Tensor:
        """Flat pixel of each entry, [h, w, m]; H W where it lies outside of the plane."""
        _, high, wide = self.shape
        down = self.top + torch.arange(self.height, device=self.top.device)[:, None]  # [h, m]
        across = self.left + torch.arange(self.width, device=self.top.device)[:, None]  # [w, m]
        inside_down, inside_across = (down >= 0) & (down < high), (across >= 0) & (across < wide)
        inside = inside_down[:, None] & inside_across[None]
        return (down[:, None] * wide + across[None]).masked_fill(~inside, high * wide)

    def part(self, rows: slice) -> Patches:
        """The patches of some rows."""
        return replace(self, top=self.top[rows], left=self.left[rows])

    def twice(self) -> Patches:
        """The patches of all rows, two times over."""
        return replace(self, top=self.top.repeat(2), left=self.left.repeat(2))

    def gather(self, plane: Tensor) -> Tensor:
        """What each row sees of ``plane`` [C, H, W]: [C, h, w, m], zero outside."""
        padded = torch.cat([plane.flatten(1), plane.new_zeros(plane.shape[0], 1)], 1)
        seen = padded.index_select(1, self.positions.flatten())
        return seen.view(plane.shape[0], *self.positions.shape)


def spread_out(rows: Tensor, patches: Patches | None) -> Tensor:
    """Rows [m, C, h, w] in full planes [m, C, H, W], last in memory; unchanged without patches."""
    if patches is None:
        return rows
    count, (channels, height, width) = len(rows), patches.shape
    places = patches.positions * count + torch.arange(count, device=rows.device)
    # One pixel more than there are, for what is outside.
    full = rows.new_zeros(channels, (height * width + 1) * count)
    full.index_copy_(1, places.flatten(), rows.movedim(0, -1).reshape(channels, -1))
    return full[:, :-count].reshape(*patches.shape, count).movedim(-1, 0)


def pull_patches(
    linear: LinearMap, rows: Tensor, patches: Patches | None
) -> tuple[Tensor, Patches | None]:
    """``W^T rows``: in patches through a convolution, as long as they are smaller than a plane."""
    if patches is None or not isinstance(linear, Convolution):
        return linear.adjoint(spread_out(rows, patches)), None
    values = linear.spread(rows)
    top = patches.top * linear.stride[0] - linear.pads[0]
    left = patches.left * linear.stride[1] - linear.pads[1]
    height, width = values.shape[2:]
    found = Patches(top, left, height, width, linear.input_shape)
    pixels = linear.input_shape[1] * linear.input_shape[2]
    if found.height * found.width >= pixels:
        return spread_out(values, found), None
    inside = (found.positions < pixels).to(values.dtype)
    return (values.movedim(0, -1) * inside).movedim(-1, 0), found


def unit_patches(found: Tensor, shape: Shape, dtype: torch.dtype) -> tuple[Tensor, Patches | None]:
    """Unit rows of the neurons with flat indices ``found`` [m] of an activation of ``shape``."""
    rows = torch.arange(len(found), device=found.device)
    if len(shape) != 3:
        values = torch.zeros(*shape, len(found), dtype=dtype, device=found.device)
        values.view(-1, len(found))[found, rows] = 1.0
        return values.movedim(-1, 0), None
    channel, pixel = found // (shape[1] * shape[2]), found % (shape[1] * shape[2])
    values = torch.zeros(shape[0], 1, 1, len(found), dtype=dtype, device=found.device)
    values[channel, 0, 0, rows] = 1.0
    return values.movedim(-1, 0), Patches(pixel // shape[2], pixel % shape[2], 1, 1, shape)
