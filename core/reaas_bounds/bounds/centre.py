"""The point a ball is centred at: activations there, and what the ball does to the first layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Graph

# Widening of every interval: relative for the sums of a few thousand products behind it
# (gamma_8192 = 1e-12, times the cancellation in a row), absolute in units of the layer's largest
# activation for the rounding of the centre's own value.
RELATIVE_MARGIN = 1e-9
ABSOLUTE_MARGIN = 1e-11


@dataclass(frozen=True, eq=False)
class Interval:
    """``lower <= h(x + d) - h(x) <= upper`` entrywise, each [n, *shape]; 0 lies inside."""

    lower: Tensor
    upper: Tensor

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.lower + other.lower, self.upper + other.upper)

    def intersect(self, other: Interval) -> Interval:
        """What both say."""
        return Interval(
            torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        )

    def widened(self, scale: Tensor) -> Interval:
        """Outward by the margins; ``scale`` [n, 1...] = largest activation of the layer."""
        margin = RELATIVE_MARGIN * (self.upper - self.lower) + ABSOLUTE_MARGIN * scale
        return Interval(self.lower - margin, self.upper + margin)

    def norm(self) -> Tensor:
        """``sqrt(sum_i max(l_i^2, u_i^2))`` [n]: bound of ``||h(x + d) - h(x)||_2``."""
        farthest = torch.maximum(self.lower.abs(), self.upper.abs())
        norm: Tensor = farthest.flatten(1).norm(dim=1)
        return norm * (1 + RELATIVE_MARGIN)


@dataclass(frozen=True, eq=False)
class Centre:
    """Images x [n, C, H, W] with the values of every node of the folded graph there."""

    network: Network
    graph: Graph  # the folded graph in the precision of x
    values: tuple[Tensor, ...]
    first_rows: dict[int, Tensor]  # affine nodes that read the image: norms of their rows

    @classmethod
    def of(cls, network: Network, x: Tensor) -> Centre:
        """Evaluate the network at ``x``: float64, or float32 for what certifies nothing."""
        graph = network.folded if x.dtype == torch.float64 else network.folded_float32
        first = {k: norms.to(x) for k, norms in network.first_row_norms.items()}
        return cls(network, graph, tuple(graph.activations(x)), first)

    def select(self, images: Tensor) -> Centre:
        """The centre restricted to some of its images (indices [m])."""
        return replace(self, values=tuple(v[images] for v in self.values))

    def scale(self, index: int) -> Tensor:
        """Largest absolute value of node ``index`` per image, [n, 1, ...]."""
        value = self.values[index]
        return value.flatten(1).abs().amax(1).reshape(-1, *(1 for _ in value.shape[1:]))
