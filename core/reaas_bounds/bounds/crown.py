"""CROWN (Zhang et al., Efficient Neural Network Robustness Certification, NeurIPS 2018).

The paper's bound of F2IPerturb: every coordinate of the feature by CROWN, then the 2-norm.
Everything is written for the change ``h(x + d) - h(x)``: the biases drop out, and so does the
rounding of their cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Centre, Interval
from reaas_bounds.bounds.crown_features import feature_rows
from reaas_bounds.bounds.crown_rows import Lines, RowBounds, row_bounds
from reaas_bounds.bounds.ibp import propagate
from reaas_bounds.bounds.linearisation import Linearisation
from reaas_bounds.bounds.relaxation import relax
from reaas_bounds.bounds.row_hidden import neuron_constants
from reaas_bounds.graph.activation import Entrywise
from reaas_bounds.graph.nodes import Activation, Affine, Graph
from reaas_bounds.graph.patches import unit_patches
from reaas_bounds.graph.rows import unit_group_size


@dataclass(frozen=True, eq=False)
class CrownBound:
    """CROWN's bound of one image, made for one radius: it holds for every smaller one too.

    ``rows``: of the d coordinates; ``interval`` [1, d]: interval propagation at that radius;
    ``scale`` [1, 1]: the largest coordinate, for the rounding.
    """

    rows: RowBounds
    interval: Interval
    scale: Tensor

    def at(self, radius: Tensor) -> Tensor:
        """``B(r)`` [1] for ``radius`` [1], at most the one that the bound was made for."""
        lower, upper = (part.view_as(self.interval.lower) for part in self.rows.at(radius))
        return self.interval.intersect(Interval(lower, upper).widened(self.scale)).norm()


def crown_bound(centre: Centre, radii: Tensor) -> Tensor:
    """``B(r) >= max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``, [n]; deterministic.

    Theorem: replacing each activation by a line above and one below, sound on the interval of its
    input, gives for every coordinate i a row A and an offset with
    ``f_i(x + d) - f_i(x) >= A d + beta >= beta - r ||A||_2`` (and the same above);
    ``B = sqrt(sum_i max(l_i^2, u_i^2))``. Intervals of hidden neurons are those of ``relaxed``,
    so B is never above the bound of IBP. Float64, widened outward by the margins of ``centre``.
    Each image is worked on by itself: its bits do not depend on the others.
    """
    bounds = [radii.new_zeros(0)]
    for image, radius in enumerate(torch.split(radii, 1)):
        single = centre.select(torch.tensor([image], device=radii.device))
        bounds.append(crown(single, Linearisation.of(single), radius).at(radius))
    return torch.cat(bounds)


def crown(centre: Centre, linearisation: Linearisation, radius: Tensor) -> CrownBound:
    """The bound of the one image of ``centre``, made for ``radius`` [1]."""
    found = relaxed(centre, radius)
    rows = feature_rows(linearisation, found.lines)
    return CrownBound(rows, found.intervals[-1], centre.scale(len(centre.graph.nodes) - 1))


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Intervals of all nodes of one image (the feature's is IBP's), and lines of activations."""

    intervals: list[Interval]
    lines: dict[int, Lines]

    @classmethod
    def within(cls, centre: Centre, intervals: list[Interval]) -> Relaxed:
        """Lines of the activations on given intervals of all nodes: as sound as these are."""
        return cls(
            intervals,
            {
                index: _lines(centre, index, intervals)
                for index, node in enumerate(centre.graph.nodes)
                if isinstance(node, Activation)
            },
        )


def _lines(centre: Centre, index: int, intervals: list[Interval]) -> Lines:
    """CROWN's lines of activation ``index``."""
    node = centre.graph.nodes[index]
    assert isinstance(node, Activation)
    found = relax(node.function, centre.values[node.source], intervals[node.source])
    return Lines(found, node.shape)


def relaxed(centre: Centre, radius: Tensor) -> Relaxed:
    """What is known of the hidden neurons of one image within ``radius`` [1].

    Intervals of what activations read are CROWN's own, intersected with interval propagation and
    with the neurons' own constants times r. CROWN's rows are needed only for neurons whose
    function still bends in its interval: that last bound, which costs nothing, leaves few of them.
    """
    graph = centre.graph
    readers, last = _readers(graph), len(graph.nodes) - 1
    intervals: list[Interval] = []
    lines: dict[int, Lines] = {}
    for index, node in enumerate(graph.nodes):
        interval = propagate(centre, index, intervals, radius)
        if isinstance(node, Activation):
            lines[index] = _lines(centre, index, intervals)
        if index != last and index not in centre.first_rows:
            if isinstance(node, Affine):
                size = neuron_constants(centre.network, index).to(radius) * radius
                within = Interval(-size[None], size[None]).widened(centre.scale(index))
                interval = interval.intersect(within)
            if index in readers:
                interval = _tightened(centre, index, interval, readers[index], lines, radius)
        intervals.append(interval)
    return Relaxed(intervals, lines)


def _readers(graph: Graph) -> dict[int, list[Entrywise]]:
    """Per node that activations read: their functions."""
    readers: dict[int, list[Entrywise]] = {}
    for node in graph.nodes:
        if isinstance(node, Activation):
            readers.setdefault(node.source, []).append(node.function)
    return readers


def _tightened(
    centre: Centre,
    index: int,
    interval: Interval,
    functions: list[Entrywise],
    lines: dict[int, Lines],
    radius: Tensor,
) -> Interval:
    """``interval`` intersected with CROWN's for the neurons whose function bends in it."""
    at, shape = centre.values[index], centre.graph.nodes[index].shape
    ends = at + interval.lower, at + interval.upper
    bent = torch.stack([function.bends(*ends) for function in functions]).any(0)
    lower, upper = interval.lower.flatten().clone(), interval.upper.flatten().clone()
    # Lower and upper bounds travel together: two rows a neuron.
    size = max(1, unit_group_size(centre.graph, index) // 2)
    wanted = bent.flatten().nonzero()[:, 0]
    for start in range(0, len(wanted), size):
        neurons = wanted[start : start + size]
        rows, patches = unit_patches(neurons, shape, lower.dtype)
        bounds = row_bounds(centre.graph, index, rows, patches, lines)
        lower[neurons], upper[neurons] = bounds.at(radius)
    crowned = Interval(lower.view_as(at), upper.view_as(at)).widened(centre.scale(index))
    return interval.intersect(crowned)
