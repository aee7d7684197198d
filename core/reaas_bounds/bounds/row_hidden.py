"""Lipschitz constants of single hidden neurons: made once for a network, they hold everywhere."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from reaas_bounds.bounds.row_constant import ROUNDING, reach, rounded_rows
from reaas_bounds.graph.backward import pull_back_patches
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Affine
from reaas_bounds.graph.patches import Patches, unit_patches
from reaas_bounds.graph.rows import unit_group_size

# Neurons of a layer times those of the widest one, at most: about a second. Beyond, only the norm
# of each neuron's row is asked.
LARGEST = 2**27

_known: WeakKeyDictionary[Network, dict[int, Tensor]] = WeakKeyDictionary()


def neuron_constants(network: Network, index: int) -> Tensor:
    """Per neuron j of the folded affine node ``index`` an L_j, [*shape]; remembered; deterministic.

    ``|h_j(x + d) - h_j(x)| <= L_j ||d||_2`` for all images, rounding included. Theorem: that of
    ``row_constants`` with the unit row of j, or ``||w_j|| Q`` for the row w_j of the map and the
    constant Q of what it reads, if that is smaller.
    """
    known = _known.setdefault(network, {})
    if index not in known:
        node = network.folded.nodes[index]
        assert isinstance(node, Affine)
        simple = network.row_norms(index) * reach(network)[node.source] * (1 + ROUNDING)
        widest = max(math.prod(other.shape) for other in network.folded.nodes)
        if simple.numel() * widest <= LARGEST:
            simple = torch.minimum(simple, _averaged(network, index).view_as(simple))
        known[index] = simple
    return known[index]


def _averaged(network: Network, index: int) -> Tensor:
    """The constants of all neurons of node ``index`` by averaged operators, [numel]."""
    shape = network.folded.nodes[index].shape
    neurons = torch.arange(math.prod(shape), device=network.device)
    groups = torch.split(neurons, unit_group_size(network.folded, index))
    return torch.cat([_group(network, index, group) for group in groups])


def _group(network: Network, index: int, neurons: Tensor) -> Tensor:
    graph, known = network.folded, reach(network)
    total = torch.zeros(len(neurons), dtype=torch.float64, device=neurons.device)
    sizes: dict[int, Tensor] = {}

    def through(current: int, values: Tensor, place: Patches | None) -> Tensor:
        node = graph.nodes[current]
        assert isinstance(node, Activation)
        last = values.movedim(0, -1)  # [*shape or patch, m]
        spread, centre = (
            _seen(part.expand(node.shape), place)
            for part in (node.function.spread, node.function.centre)
        )
        sizes[current] = _lengths(last)
        total.add_(_lengths(last * spread) * known[node.source])
        return (last * centre).movedim(-1, 0)

    rows, patches = unit_patches(neurons, graph.nodes[index].shape, torch.float64)
    image, _ = pull_back_patches(graph, index, rows, patches, through)
    hidden = rounded_rows(network, known, torch.ones_like(total), sizes, index)
    return (total + _lengths(image.movedim(0, -1)) + hidden) * (1 + ROUNDING)


def _seen(plane: Tensor, place: Patches | None) -> Tensor:
    """What rows that are last in memory meet of ``plane`` [*shape]."""
    return plane.unsqueeze(-1) if place is None else place.gather(plane)


def _lengths(rows: Tensor) -> Tensor:
    """2-norms of rows [..., m], [m]."""
    norms: Tensor = torch.linalg.vector_norm(rows.flatten(0, -2), dim=0)
    return norms
