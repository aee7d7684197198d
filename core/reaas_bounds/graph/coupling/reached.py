"""Where the values of a node lie while the image stays in some set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

# Widening: relative for norms and sums of a few thousand terms, absolute in units of the largest
# entry for the rounding of the centre's own value; as for the intervals of ``bounds.centre``.
RELATIVE = 1e-9
ABSOLUTE = 1e-11


@dataclass(frozen=True, eq=False)
class Reached:
    """Values h [*shape] with ``||h - centre||_2 <= move`` and, entrywise, ``lower <= h <= upper``.

    All float64; the ends and ``move`` may be infinite.
    """

    centre: Tensor
    move: float
    lower: Tensor
    upper: Tensor

    @classmethod
    def within(cls, centre: Tensor, move: float) -> Reached:
        """Values within ``move`` of the computed ``centre``, widened by what float64 rounds."""
        scale = float(centre.abs().max())
        apart = move * (1 + RELATIVE) + ABSOLUTE * scale
        total = move * (1 + RELATIVE) + ABSOLUTE * scale * centre.numel() ** 0.5
        return cls(centre, total, centre - apart, centre + apart)

    def between(self, lower: Tensor, upper: Tensor) -> Reached:
        """Those of the values that lie in an interval, too."""
        lower, upper = torch.maximum(self.lower, lower), torch.minimum(self.upper, upper)
        return Reached(self.centre, self.move, lower, upper)

    @cached_property
    def sizes(self) -> Tensor:
        """Entrywise bound of ``|h|``, [*shape]."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    @cached_property
    def length(self) -> float:
        """Bound of ``||h||_2``."""
        return min(float(self.centre.norm()) + self.move, float(self.sizes.norm()))
