"""A cheap proof that no bound per coordinate can certify a radius: spares CROWN evaluations."""

from __future__ import annotations

import torch
from torch import Tensor

from reaas_bounds.graph.backward import pull_back
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Graph
from reaas_bounds.graph.window import Window, crop

# Float32 evaluation: differences of features are good to a few 1e-6 of the feature's size.
RELATIVE_SLACK = 1e-3
ABSOLUTE_SLACK = 1e-5


# Coordinates tried at once: on regularised encoders the first group is proof enough.
GROUP = 24


def per_coordinate_floor(
    network: Network, x: Tensor, radii: Tensor, enough: Tensor | None = None
) -> Tensor:
    """What IBP and CROWN bounds of the change of the feature cannot go below, [n].

    Theorem: an interval of coordinate i that is sound on ``||d|| <= r`` holds every attained
    change, so ``sqrt(sum_i max(l_i^2, u_i^2)) >= sqrt(sum_i |f_i(x + d_i) - f_i(x)|^2)`` for any
    points ``d_i`` of the ball and any coordinates i; here ``d_i = r J_i / ||J_i||``, J the Jacobian
    at x. It holds for every larger ball, too. Evaluated in float32 and lowered by a slack: it
    decides where to spend effort, never what is certified.

    Args:
        enough: [n]; no more coordinates are added to a floor above it. None: all are.
    """
    graph = network.folded_float32
    wanted = torch.full_like(radii, torch.inf) if enough is None else enough
    rows = zip(x.float(), radii.tolist(), wanted.tolist(), strict=True)
    return torch.tensor([_floor(graph, *row) for row in rows], dtype=torch.float64)


def _floor(graph: Graph, image: Tensor, radius: float, enough: float) -> float:
    values = graph.activations(image[None])
    feature = values[-1][0]  # [d]
    slack = ABSOLUTE_SLACK * float(feature.norm())
    stride = -(-len(feature) // GROUP)
    squares, floor = 0.0, 0.0
    for first in range(stride):
        chosen = torch.arange(first, len(feature), stride, device=feature.device)
        squares += float((_attained(graph, values, image, radius, chosen)).double().square().sum())
        floor = max(squares**0.5 * (1 - RELATIVE_SLACK) - slack, 0.0)
        if floor > enough:
            break
    return floor


def _attained(
    graph: Graph, values: list[Tensor], image: Tensor, radius: float, chosen: Tensor
) -> Tensor:
    """Change of each ``chosen`` coordinate [m] at the end of its own Jacobian row, [m]."""
    feature = values[-1][0]
    basis = torch.eye(len(feature), dtype=feature.dtype, device=feature.device)[chosen]
    rows = pulled_through(graph, values, basis)  # [m, C, H, W]
    sizes = rows.flatten(1).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    moved = graph.forward(image + radius * rows / sizes[:, None, None, None])  # [m, d]
    return moved.gather(1, chosen[:, None])[:, 0] - feature[chosen]


def jacobian(graph: Graph, values: list[Tensor]) -> Tensor:
    """Jacobian [d, C, H, W] of the feature at one image, from the ``values`` of all nodes there."""
    feature = values[-1]
    basis = torch.eye(feature.shape[1], dtype=feature.dtype, device=feature.device)
    return pulled_through(graph, values, basis)


def pulled_through(graph: Graph, values: list[Tensor], rows: Tensor) -> Tensor:
    """``rows J`` [m, C, H, W] for ``rows`` [m, d], J the Jacobian where ``values`` were taken."""

    def through(index: int, pulled: Tensor, window: Window | None) -> Tensor:
        node = graph.nodes[index]
        assert isinstance(node, Activation)
        return pulled * crop(node.function.derivative(values[node.source]), window)

    last = len(graph.nodes) - 1
    shaped = rows.reshape(len(rows), *graph.nodes[last].shape)
    return pull_back(graph, last, shaped, None, through)
