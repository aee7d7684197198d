"""Quadratic envelope of one direction of the feature around an image.

All neurons of a layer share one budget: the change s of their inputs has ``||s||_2 <= Q r``. A
bound per neuron gives each the whole of it; here the budget is paid for once, as ``K ||s||^2``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.bounds.activation_beta import beta
from reaas_bounds.bounds.row_constant import ROUNDING, reach, rounded_rows
from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Sum, only_by_constants
from reaas_bounds.graph.window import Window, crop


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Free choices of the bound, per activation (node index); any make it sound.

    Attributes:
        slopes: g inside the range of the function's slopes, [1, *shape].
        curvatures: K > 0, scalars.
    """

    slopes: dict[int, Tensor]
    curvatures: dict[int, Tensor]

    def detached(self) -> Multipliers:
        """A copy outside of any gradient."""
        slopes = {k: g.detach().clone() for k, g in self.slopes.items()}
        return Multipliers(slopes, {k: v.detach().clone() for k, v in self.curvatures.items()})

    def double(self, graph: Graph) -> Multipliers:
        """The same in float64, slopes inside the ranges of the functions of ``graph``."""
        slopes = {k: inside(graph, k, g.double()) for k, g in self.slopes.items()}
        return Multipliers(slopes, {k: v.double() for k, v in self.curvatures.items()})


@dataclass(frozen=True)
class Envelope:
    """``c . (f(x + d) - f(x)) <= offset + slope ||d|| + curvature ||d||^2``, all d; all >= 0."""

    offset: float
    slope: float
    curvature: float

    def with_slope(self, more: float) -> Envelope:
        """The envelope of something that also grows by ``more ||d||``."""
        return replace(self, slope=self.slope + more)

    def radius(self, margin: float) -> float:
        """The largest r with ``offset + slope r + curvature r^2 <= margin``; 0 if there is none."""
        room = margin - self.offset
        if not room > 0:
            return 0.0
        divisor = self.slope + math.hypot(self.slope, 2 * math.sqrt(self.curvature * room))
        if not math.isfinite(divisor):  # an overflow: nothing is known
            return 0.0
        return 2 * room / divisor * (1 - ROUNDING) if divisor > 0 else math.inf


@dataclass(frozen=True, eq=False)
class Local:
    """One image x [1, C, h, w] and what is known there of every node k of the folded graph.

    ``values[k]`` [1, *shape_k] and how far rounding may have taken them (``drift[k]``, 2-norm);
    ``reach[k]`` = Q_k with ``||h_k(x + d) - h_k(x)|| <= Q_k ||d||``.
    """

    network: Network
    values: list[Tensor]
    drift: list[float]
    reach: list[float]

    @classmethod
    def of(cls, network: Network, x: Tensor) -> Local:
        """Evaluate the network at ``x`` (float64)."""
        values = network.folded.activations(x)
        return cls(network, values, _drift(network, values), reach(network))


def activation(graph: Graph, index: int) -> Activation:
    """Node ``index`` of ``graph``, which is an activation."""
    node = graph.nodes[index]
    assert isinstance(node, Activation)
    return node


def inside(graph: Graph, index: int, slopes: Tensor) -> Tensor:
    """``slopes`` cut off at the range of the function of node ``index``."""
    function = activation(graph, index).function
    return torch.maximum(torch.minimum(slopes, function.high), function.low)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A row after all activations: norm at the image, sum of beta, norm at each one's output."""

    slope: Tensor
    offset: Tensor
    sizes: dict[int, Tensor]


def relax_row(graph: Graph, values: list[Tensor], row: Tensor, chosen: Multipliers) -> Relaxed:
    """Pull ``row`` [1, d] back to the image, every activation replaced by its line; any dtype."""
    sizes: dict[int, Tensor] = {}
    offsets: list[Tensor] = [row.new_zeros(())]

    def through(index: int, p: Tensor, window: Window | None) -> Tensor:
        node = activation(graph, index)
        z = crop(values[node.source], window)
        g, curvature = crop(chosen.slopes[index], window), chosen.curvatures[index]
        sizes[index] = p.norm()
        offsets.append(beta(node.function, p, g, z, curvature).sum())
        return p * g

    last = len(graph.nodes) - 1
    shaped = row.reshape(1, *graph.nodes[last].shape)
    image = pull_back(graph, last, shaped, None, through)  # [1, C, h, w]
    return Relaxed(image.norm(), torch.stack(offsets).sum(), sizes)


def quadratic_envelope(local: Local, row: Tensor, multipliers: Multipliers) -> Envelope:
    """The envelope of ``row . (f(x + d) - f(x))`` for ``row`` [1, d]; deterministic.

    Theorem: let p be a row at the output of an activation with input z, whose change under d is
    s. By the definition of beta, ``p . (sigma(z + s) - sigma(z)) <= (p g) . s + K ||s||^2 + sum_j
    beta(p_j, g_j; z_j, K)``. Applied from the last one to the first, with ``||s_k|| <= Q_k ||d||``
    and q what arrives at the image: ``c . (f(x + d) - f(x)) <= ||q|| ||d|| + sum_k K_k Q_k^2
    ||d||^2 + sum beta``. Sums of paths add their rows, so any graph will do.

    Evaluated in float64. Added for its rounding: that of the rows (``rounded_rows``); values off
    by ``drift`` cost ``||p|| drift``; cancellation inside beta ``ROUNDING ||p||^2 / 4K``.
    """
    graph = local.network.folded
    chosen = multipliers.double(graph)
    relaxed = relax_row(graph, local.values, row, chosen)
    bent = offset = 0.0
    for index, size in relaxed.sizes.items():
        source = activation(graph, index).source
        curvature, length = float(chosen.curvatures[index]), float(size)
        bent += curvature * local.reach[source] * local.reach[source]
        offset += length * (local.drift[source] + ROUNDING * length / (4 * curvature))
    rounding = rounded_rows(local.network, local.reach, row.norm(), relaxed.sizes)
    slope = float(relaxed.slope + rounding)
    grown = 1 + ROUNDING
    return Envelope((float(relaxed.offset) + offset) * grown, slope * grown, bent * grown)


def _drift(network: Network, values: list[Tensor]) -> list[float]:
    """Per node a bound of the 2-norm of the rounding error of ``values``."""
    drift: list[float] = []
    for node, value in zip(network.folded.nodes, values, strict=True):
        match node:
            case Input():
                drift.append(ROUNDING * float(value.norm()))
            case Affine():
                read = float(values[node.source].norm())
                bias = float(node.bias_magnitude.expand(node.shape).norm())
                sums = network.norms.of_absolute(node.linear) * read + bias
                carried = network.norms.of(node.linear) * drift[node.source]
                drift.append(carried + ROUNDING * sums)
            case Activation():
                sums = float(values[node.source].norm()) + float(value.norm())
                drift.append(node.function.gain * drift[node.source] + ROUNDING * sums)
            case Sum():
                carried = drift[node.left] + drift[node.right]
                drift.append(carried + ROUNDING * float(value.norm()))
            case Joint():
                raise only_by_constants(node)
    return drift
