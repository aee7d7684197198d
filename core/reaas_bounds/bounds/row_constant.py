"""Lipschitz constants of single directions of the feature: averaged operators, row in front."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reaas_bounds.bounds.lipschitz import (
    RELATIVE_ROUNDING,
    averaged_operators,
    prefix_constants,
)
from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Affine, sources
from reaas_bounds.graph.window import Window

# Relative rounding of one product with a map, in units of the map's absolute values: 200 times
# gamma_4096, which leaves room for cancellation in maps that were merged when the graph was
# folded, and for sums over 2^18 neurons.
ROUNDING = 1e-10


def reach(network: Network) -> list[float]:
    """Per folded node k the constant Q_k with ``||h_k(x) - h_k(y)||_2 <= Q_k ||x - y||_2``."""
    known = prefix_constants(network.folded, network.norms, averaged_operators)
    return [constant * (1 + RELATIVE_ROUNDING) for constant in known]


def row_constants(network: Network, rows: Tensor) -> Tensor:
    """Per row c of ``rows`` [m, d] an upper bound of its own constant, [m]; deterministic.

    ``c . (f(x) - f(y)) <= constant * ||x - y||_2`` for all images, rounding included.

    Theorem (averaged operators with the row in front, cf. Combettes & Pesquet, SIAM J. Math. Data
    Sci. 2020): the change of an activation is ``C s + R E s`` with s the change of its input, E
    diagonal, ``|E| <= 1``, and C, R = 1/2 for a ReLU. So a row p at its output is worth at most
    ``(p C) . s + ||p R|| ||s||``, and ``||s|| <= Q ||x - y||``. Pulling back to the image with
    slopes C everywhere gives ``||q|| + sum_k ||p_k R|| Q_k``.
    """
    known = reach(network)
    sizes: dict[int, Tensor] = {}
    total = rows.new_zeros(len(rows))

    def meet(index: int, pulled: Tensor, worst: Tensor, budget: float) -> None:
        sizes[index] = pulled.flatten(1).norm(dim=1)  # [m]
        total.add_(worst.flatten(1).norm(dim=1) * budget)

    image = averaged_rows(network, known, rows, meet)  # [m, C, h, w]
    total += image.flatten(1).norm(dim=1) + rounded_rows(network, known, rows.norm(dim=1), sizes)
    return total * (1 + ROUNDING)


# What is done with rows p at the output of an activation (node index): p, p R, and Q.
Meet = Callable[[int, Tensor, Tensor, float], None]


def averaged_rows(network: Network, known: list[float], rows: Tensor, meet: Meet) -> Tensor:
    """Rows [m, d] pulled back to the image [m, C, h, w] with slope C through every activation.

    ``known``: Q per node; ``meet`` is called at every activation on the way.
    """
    graph = network.folded

    def through(index: int, pulled: Tensor, window: Window | None) -> Tensor:
        node = graph.nodes[index]
        assert isinstance(node, Activation)
        meet(index, pulled, pulled * node.function.spread, known[node.source])
        return pulled * node.function.centre

    last = len(graph.nodes) - 1
    shaped = rows.reshape(len(rows), *graph.nodes[last].shape)
    return pull_back(graph, last, shaped, None, through)


def rounded_rows(
    network: Network,
    known: list[float],
    size: Tensor,
    sizes: dict[int, Tensor],
    start: int | None = None,
) -> Tensor:
    """What the rounding of pulled back rows may hide of their value, per unit of ``||d||``, [m].

    A row p pulled through W is off by at most ``ROUNDING || |W| || ||p||``, and what it meets
    there is at most ``Q ||d||``. ``size`` [m]: norms of the rows at node ``start`` (None: the
    feature); ``sizes``: at the output of each activation that they passed with slopes in its range.
    """
    end = None if start is None else start + 1
    nodes, norms = network.folded.nodes[:end], network.norms
    lengths = [torch.zeros_like(size) for _ in nodes]
    lengths[-1] = size
    total = torch.zeros_like(size)
    for index in range(len(nodes) - 1, 0, -1):
        node, length = nodes[index], sizes.get(index, lengths[index])
        match node:
            case Affine():
                gain = norms.of_absolute(node.linear)
            case Activation():
                gain = node.function.gain
            case _:
                gain = 1.0
        for source in sources(node):
            lengths[source] = lengths[source] + gain * length
            total += ROUNDING * gain * known[source] * length
    return total
