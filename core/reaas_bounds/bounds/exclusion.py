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


def per_coordinate_floor(network: Network, x: Tensor, radii: Tensor) -> Tensor:
    """What IBP and CROWN bounds of the change of the feature cannot go below, [n].

    Theorem: an interval of coordinate i that is sound on ``||d|| <= r`` holds every attained
    change, so ``sqrt(sum_i max(l_i^2, u_i^2)) >= sqrt(sum_i |f_i(x + d_i) - f_i(x)|^2)`` for any
    points ``d_i`` of the ball; here ``d_i = r J_i / ||J_i||``, J the Jacobian at x. Evaluated in
    float32 and lowered by a slack: it decides where to spend effort, never what is certified.
    """
    graph = network.folded_float32
    pairs = zip(x.float(), radii.tolist(), strict=True)
    return torch.stack([_floor(graph, image, radius) for image, radius in pairs])


def _floor(graph: Graph, image: Tensor, radius: float) -> Tensor:
    values = graph.activations(image[None])
    feature = values[-1][0]  # [d]
    rows = jacobian(graph, values)  # [d, C, H, W]
    sizes = rows.flatten(1).norm(dim=1).clamp_min(torch.finfo(rows.dtype).tiny)
    moved = graph.forward(image + radius * rows / sizes[:, None, None, None])  # [d, d]
    attained = (moved.diagonal() - feature).norm()
    floor: Tensor = attained * (1 - RELATIVE_SLACK) - ABSOLUTE_SLACK * feature.norm()
    return floor.double()


def jacobian(graph: Graph, values: list[Tensor]) -> Tensor:
    """Jacobian [d, C, H, W] of the feature at one image, from the ``values`` of all nodes there."""

    def through(index: int, rows: Tensor, window: Window | None) -> Tensor:
        node = graph.nodes[index]
        assert isinstance(node, Activation)
        return rows * crop(node.function.derivative(values[node.source]), window)

    basis = torch.eye(values[-1].shape[1], dtype=values[-1].dtype)
    return pull_back(graph, len(graph.nodes) - 1, basis, None, through)
