"""Rows of a node pulled back to the image, every activation replaced by CROWN's lines."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.relaxation import Relaxation
from reaas_bounds.graph.backward import pull_back_patches
from reaas_bounds.graph.nodes import Affine, Graph
from reaas_bounds.graph.patches import Patches, pull_patches

# Up to this share of bent entries it is cheaper to pick them out (measured).
_FEW = 0.1


@dataclass(frozen=True, eq=False)
class Chosen:
    """What rows take of the lines at some entries: ``slope p + more_slope min(p, 0)``, and so on.

    The lower line where a row is positive, the upper one, larger by ``more``, where negative.
    """

    slope: Tensor
    more_slope: Tensor
    offset: Tensor
    more_offset: Tensor


class Lines:
    """CROWN's lines around one activation of one image, as rows meet them; all [*shape].

    ``bent``: where there is more to them than one slope.
    """

    def __init__(self, found: Relaxation, shape: tuple[int, ...]) -> None:
        slope, upper_slope, offset, upper_offset = (
            part.expand(1, *shape)[0]
            for part in (
                found.lower_slope,
                found.upper_slope,
                found.lower_offset,
                found.upper_offset,
            )
        )
        self.slope, self.offset = slope, offset
        self.more_slope, self.more_offset = upper_slope - slope, upper_offset - offset
        self.bent = (self.more_slope != 0) | (upper_offset != 0) | (offset != 0)
        self.crowded = int(self.bent.sum()) > _FEW * self.bent.numel()

    def at(self, entries: Tensor) -> Chosen:
        """The lines of the entries with flat indices ``entries``."""
        parts = (self.slope, self.more_slope, self.offset, self.more_offset)
        return Chosen(*(part.flatten()[entries] for part in parts))

    def met_by(self, rows: Tensor, patches: Patches | None) -> tuple[Tensor, Tensor]:
        """Rows [*shape or patch, 2 m] after the lines, and the sum of the offsets they take, [2 m].

        The second half of the rows has the ``patches`` of the first one.
        """
        if patches is None:
            after = (rows * self.slope.unsqueeze(-1)).flatten(0, -2)
            where = self.bent.flatten().nonzero()[:, 0]
            met, chosen = rows.flatten(0, -2)[where], self.at(where)  # [k, 2 m]
            negative = met.clamp_max(0.0)
            after[where] = met * chosen.slope[:, None] + negative * chosen.more_slope[:, None]
            return after.view(rows.shape), chosen.offset @ met + chosen.more_offset @ negative
        pairs = torch.unflatten(rows, -1, (2, -1)).flatten(0, -3)  # [k, 2, m]
        patches = patches.part(slice(pairs.shape[-1]))
        after, offset = (self._all if self.crowded else self._few)(pairs, patches)
        return after.view(rows.shape), offset.flatten()

    def _all(self, pairs: Tensor, patches: Patches) -> tuple[Tensor, Tensor]:
        """For pairs [k, 2, m] of rows in m patches: every entry as if it were bent."""
        planes = (self.slope, self.more_slope, self.offset, self.more_offset)
        slope, more, low, more_low = (
            patches.gather(plane).flatten(0, -2).unsqueeze(1) for plane in planes
        )  # [k, 1, m]
        negative = pairs.clamp_max(0.0)
        after = (pairs * slope).addcmul_(negative, more)
        return after, (pairs * low).addcmul_(negative, more_low).sum(0)

    def _few(self, pairs: Tensor, patches: Patches) -> tuple[Tensor, Tensor]:
        """The same, with the bent entries picked out."""
        after = pairs * patches.gather(self.slope).flatten(0, -2).unsqueeze(1)
        bent = patches.gather(self.bent).flatten(0, -2)  # [k, m]
        where = bent.flatten().nonzero()[:, 0]
        entry, row = where // bent.shape[1], where % bent.shape[1]
        met, chosen = pairs[entry, :, row], self.at(self._entries(where, patches))  # [e, 2]
        negative = met.clamp_max(0.0)
        after[entry, :, row] = met * chosen.slope[:, None] + negative * chosen.more_slope[:, None]
        low = met * chosen.offset[:, None] + negative * chosen.more_offset[:, None]
        offset = pairs.new_zeros(bent.shape[1], 2).index_add_(0, row, low)
        return after, offset.T

    def _entries(self, where: Tensor, patches: Patches) -> Tensor:
        """Flat indices into the activation of the flat indices ``where`` into its patches."""
        positions = patches.positions.flatten()
        channel = where // len(positions)
        pixels = patches.shape[1] * patches.shape[2]
        return channel * pixels + positions[where % len(positions)]


@dataclass(frozen=True, eq=False)
class RowBounds:
    """``lowest - below r <= row . (h(x + d) - h(x)) <= highest + above r`` for m rows.

    All [m]: offsets, and 2-norms of the rows at the image. They hold for ``||d|| <= r`` as long as
    r is at most the radius that the lines were made for.
    """

    lowest: Tensor
    below: Tensor
    highest: Tensor
    above: Tensor

    @classmethod
    def of(cls, offsets: Tensor, norms: Tensor) -> RowBounds:
        """From rows and their negatives, [2 m]: an upper bound is minus a lower one."""
        (lowest, highest), (below, above) = offsets.chunk(2), norms.chunk(2)
        return cls(lowest, below, -highest, above)

    def at(self, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds [m] within ``radius`` [1]."""
        return self.lowest - radius * self.below, self.highest + radius * self.above


def row_bounds(
    graph: Graph, index: int, rows: Tensor, patches: Patches | None, lines: dict[int, Lines]
) -> RowBounds:
    """Bounds of ``rows`` [m, *shape or patch] of node ``index`` of one image; deterministic."""
    offset = rows.new_zeros(2 * len(rows))

    def through(current: int, values: Tensor, place: Patches | None) -> Tensor:
        after, added = lines[current].met_by(values.movedim(0, -1), place)
        offset.add_(added)
        return after.movedim(-1, 0)

    node = graph.nodes[index]
    if isinstance(node, Affine):
        rows, patches = pull_patches(node.linear, rows, patches)
        index = node.source
    last = rows.movedim(0, -1)
    both = torch.cat([last, -last], -1).movedim(-1, 0)
    image, _ = pull_back_patches(graph, index, both, patches and patches.twice(), through)
    return RowBounds.of(offset, torch.linalg.vector_norm(image, dim=tuple(range(1, image.dim()))))
