"""CROWN from hidden intervals too narrow to be sound: where even these fail, CROWN does not win.

In float32; it decides where to spend effort, never what is certified.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Centre, Interval
from reaas_bounds.bounds.crown import Relaxed
from reaas_bounds.bounds.crown_joint import parallel
from reaas_bounds.bounds.crown_rows import row_bounds
from reaas_bounds.bounds.exclusion import ABSOLUTE_SLACK, GROUP, RELATIVE_SLACK
from reaas_bounds.bounds.ibp import propagate
from reaas_bounds.bounds.relaxation import Relaxation
from reaas_bounds.bounds.row_interval import crown_rows
from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Graph
from reaas_bounds.graph.window import Window, crop

# Random steps that tell how far hidden neurons move, and their size: they stay on the pieces of
# the network that the image is on, and float32 still sees them.
STEPS = 8
STEP = 2.0**-6
# The share of that which counts: 96 of 100 neurons then move farther.
SHARE = 0.7
# The share of a single row's bound that counts. Rows that meet a handful of neurons have been seen
# up to 1.4 times above CROWN's, since one neuron's other line can decide; whole features never.
ROW_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class Optimistic:
    """One image in float32, and per node how far each entry moves at least, per ``||d||``.

    A sound interval holds what neurons really do. To first order that is the norm of the neuron's
    row of the Jacobian: for the first affine map it is known, for others it is the root mean square
    of what Gaussian steps move. With these intervals, cut off at those of interval propagation,
    CROWN is below CROWN: not by a theorem, since it chooses lines by the interval
    (``tests/bounds/test_optimistic.py`` compares them).
    """

    centre: Centre
    reach: list[Tensor]

    @classmethod
    def of(cls, network: Network, x: Tensor) -> Optimistic:
        """At the image ``x`` [1, C, h, w]; deterministic."""
        centre = Centre.of(network, x.float())
        random = torch.Generator().manual_seed(0)
        steps = torch.randn(STEPS, *x.shape[1:], generator=random).to(x.device)
        moved = centre.graph.activations(x.float() + STEP * steps)
        pairs = zip(moved, centre.values, strict=True)
        return cls(centre, [SHARE * _mean_square(end - start) / STEP for end, start in pairs])

    def rows(self, rows: Tensor, radius: float) -> Tensor:
        """About the least that CROWN allows ``c . (f(x + d) - f(x))`` for ``rows`` [m, d], [m]."""
        known = Relaxed.within(self.centre, self._intervals(radius))
        moved = crown_rows(self.centre, rows.float(), radius, known).at(radius)
        least: Tensor = moved * ROW_SHARE - self._slack * rows.norm(dim=1)
        return least

    def single(self, radius: float, enough: float) -> float:
        """About the least that CROWN allows ``||f(x + d) - f(x)||_2`` within ``radius``.

        From more and more coordinates, until they exceed ``enough``.
        """
        intervals, squares, least = self._intervals(radius), 0.0, 0.0
        lines, known = Relaxed.within(self.centre, intervals).lines, _farthest(intervals[-1])
        graph, last = self.centre.graph, len(intervals) - 1
        for chosen in self._coordinates():
            shaped = chosen.reshape(len(chosen), *graph.nodes[last].shape)
            found = row_bounds(graph, last, shaped, None, lines)
            ends = found.at(chosen.new_tensor([radius]))
            farthest = torch.minimum(torch.maximum(-ends[0], ends[1]), chosen @ known)
            squares += float(farthest.square().sum())
            least = self._lowered(squares**0.5)
            if least > enough:
                break
        return least

    def joint(self, radius: float, enough: float) -> float:
        """The same of CROWN_JOINT: coordinates together or one by one, whatever is less."""
        intervals = self._intervals(radius)
        lines, known = self._parallel(intervals), _farthest(intervals[-1])
        parts, least = [], 0.0
        for chosen in self._coordinates():
            parts.append((*_tied(self.centre.graph, chosen, lines), chosen @ known))
            rows, rest, farthest = (torch.cat(part) for part in zip(*parts, strict=True))
            together = radius * torch.linalg.matrix_norm(rows, 2) + rest.norm()
            apart = torch.minimum(radius * rows.norm(dim=1) + rest, farthest).norm()
            least = self._lowered(float(torch.minimum(together, apart)))
            if least > enough:
                break
        return least

    def _intervals(self, radius: float) -> list[Interval]:
        """Of all nodes; those of activations and of the feature are what matters."""
        graph, at = self.centre.graph, self.centre.values[0].new_tensor([radius])
        read = {node.source for node in graph.nodes if isinstance(node, Activation)}
        intervals: list[Interval] = []
        for index in range(len(graph.nodes)):
            interval = propagate(self.centre, index, intervals, at)
            if index in read and index not in self.centre.first_rows:
                size = self.reach[index] * radius
                interval = interval.intersect(Interval(-size, size))
            intervals.append(interval)
        return intervals

    def _parallel(self, intervals: list[Interval]) -> dict[int, Relaxation]:
        """CROWN_JOINT's lines of all activations."""
        return {
            k: parallel(node.function, self.centre.values[node.source], intervals[node.source])
            for k, node in enumerate(self.centre.graph.nodes)
            if isinstance(node, Activation)
        }

    def _coordinates(self) -> Iterator[Tensor]:
        """Unit rows [m, d] of all coordinates of the feature, a group at a time."""
        basis = torch.eye(self.centre.values[-1].numel()).to(self.centre.values[-1])
        stride = -(-len(basis) // GROUP)
        return (basis[first::stride] for first in range(stride))

    @property
    def _slack(self) -> float:
        return ABSOLUTE_SLACK * float(self.centre.values[-1].norm())

    def _lowered(self, value: float) -> float:
        return value * (1 - RELATIVE_SLACK) - self._slack


def _tied(graph: Graph, rows: Tensor, lines: dict[int, Relaxation]) -> tuple[Tensor, Tensor]:
    """Rows [m, d] after parallel lines, at the image [m, C H W], and the size [m] of the rest."""
    last = len(graph.nodes) - 1
    lowest, highest = rows.new_zeros(len(rows)), rows.new_zeros(len(rows))

    def through(index: int, pulled: Tensor, window: Window | None) -> Tensor:
        met = lines[index]
        low, high = (crop(part, window) for part in (met.lower_offset, met.upper_offset))
        positive, negative = pulled.clamp_min(0.0), pulled.clamp_max(0.0)
        lowest.add_((positive * low + negative * high).flatten(1).sum(1))
        highest.add_((positive * high + negative * low).flatten(1).sum(1))
        return pulled * crop(met.lower_slope, window)

    shaped = rows.reshape(len(rows), *graph.nodes[last].shape)
    image = pull_back(graph, last, shaped, None, through)
    return image.flatten(1), torch.maximum(-lowest, highest)


def _farthest(interval: Interval) -> Tensor:
    return torch.maximum(-interval.lower, interval.upper).flatten()


def _mean_square(moved: Tensor) -> Tensor:
    return moved.square().mean(0, keepdim=True).sqrt()
