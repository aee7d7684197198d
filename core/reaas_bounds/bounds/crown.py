"""CROWN (Zhang et al., Efficient Neural Network Robustness Certification, NeurIPS 2018).

The paper's bound of F2IPerturb: every coordinate of the feature by CROWN, then the 2-norm.
Everything is written for the change ``h(x + d) - h(x)``: the biases drop out, and so does the
rounding of their cancellation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Centre, Interval
from reaas_bounds.bounds.ibp import propagate
from reaas_bounds.bounds.relaxation import Relaxation, relax
from reaas_bounds.graph.activation import Entrywise
from reaas_bounds.graph.backward import pull_back_to_window
from reaas_bounds.graph.nodes import Activation, Graph
from reaas_bounds.graph.rows import UnitRows, group_size, unit_rows
from reaas_bounds.graph.window import Window, crop


def crown_bound(centre: Centre, radii: Tensor) -> Tensor:
    """``B(r) >= max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``, [n]; deterministic.

    Theorem: replacing each activation by a line above and one below, sound on the interval of its
    input, gives for every coordinate i a row A and an offset with
    ``f_i(x + d) - f_i(x) >= A d + beta >= beta - r ||A||_2`` (and the same above);
    ``B = sqrt(sum_i max(l_i^2, u_i^2))``. Intervals of hidden neurons are CROWN's own (rows only
    for neurons whose function bends in their interval) intersected with interval propagation, so
    B is never above the bound of IBP. Float64, widened outward by the margins of ``centre``.
    """
    graph = centre.graph
    readers = _readers(graph)
    last = len(graph.nodes) - 1
    intervals: list[Interval] = []
    relaxations: dict[int, Relaxation] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node, Activation):
            at, around = centre.values[node.source], intervals[node.source]
            relaxations[index] = relax(node.function, at, around)
        interval = propagate(centre, index, intervals, radii)
        if index not in centre.first_rows and (index in readers or index == last):
            wanted = torch.ones_like(interval.lower, dtype=torch.bool)
            if index != last:
                at = centre.values[index]
                low, high = at + interval.lower, at + interval.upper
                bent = [function.bends(low, high) for function in readers[index]]
                wanted = torch.stack(bent).any(0)
            interval = _tightened(centre, index, interval, wanted, relaxations, radii)
        intervals.append(interval)
    return intervals[-1].norm()


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
    wanted: Tensor,
    relaxations: dict[int, Relaxation],
    radii: Tensor,
) -> Interval:
    """``interval`` intersected with CROWN's for the ``wanted`` neurons [n, *shape]."""
    lower, upper = interval.lower.clone(), interval.upper.clone()
    # Lower and upper bounds travel together: two rows a neuron.
    size = max(1, group_size(centre.graph) // 2)
    for rows in unit_rows(wanted, size):
        low, high = row_bounds(centre.graph, index, rows, relaxations, radii)
        lower.flatten(1)[rows.image, rows.neuron] = low
        upper.flatten(1)[rows.image, rows.neuron] = high
    return interval.intersect(Interval(lower, upper).widened(centre.scale(index)))


def row_bounds(
    graph: Graph,
    index: int,
    rows: UnitRows,
    relaxations: dict[int, Relaxation],
    radii: Tensor,
) -> tuple[Tensor, Tensor]:
    """Lower and upper bound [m] of the change of the neurons in ``rows`` of node ``index``.

    An upper bound of a row is minus a lower bound of its negative: both travel in one batch.
    """
    image = torch.cat([rows.image, rows.image])
    offset = torch.zeros(len(image), dtype=rows.values.dtype)

    def lines(current: int, values: Tensor, window: Window | None) -> Tensor:
        """Each entry takes the line that bounds it from below: by its sign."""
        relaxation, positive = relaxations[current], values >= 0
        constants = (relaxation.lower_offset, relaxation.upper_offset)
        chosen = _pick(positive, *constants, window, image)
        offset.add_((values * chosen).flatten(1).sum(1))
        slopes = (relaxation.lower_slope, relaxation.upper_slope)
        return values * _pick(positive, *slopes, window, image)

    both = torch.cat([rows.values, -rows.values])
    slopes, _ = pull_back_to_window(graph, index, both, rows.window, lines)
    bound = offset - radii[image] * slopes.flatten(1).norm(dim=1)
    below, above = bound.chunk(2)
    return below, -above


def _pick(
    positive: Tensor, lower: Tensor, upper: Tensor, window: Window | None, image: Tensor
) -> Tensor:
    """``lower`` where a row is positive, else ``upper``; both [n, *shape], rows of ``image``."""
    lower, upper = crop(lower, window), crop(upper, window)
    if len(lower) > 1:  # else all rows share the one image
        lower, upper = lower[image], upper[image]
    return torch.where(positive, lower, upper)
