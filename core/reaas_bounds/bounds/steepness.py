"""How much the feature moves to first order: the least that any local bound has to allow for."""

from __future__ import annotations

from torch import Tensor

from reaas_bounds.bounds.exclusion import pulled_through
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Sum, only_by_constants

# Power steps towards the top singular value of the Jacobian: two passes of a network each. On the
# shipped encoders eight find more than 95% of it.
POWER_STEPS = 8


def jacobian_norm(graph: Graph, image: Tensor) -> float:
    """About ``||J||_2`` at ``image`` [1, C, h, w], from below: for effort, never for a certificate.

    Power iteration in the precision of ``graph``, from the image itself; deterministic.
    """
    values = graph.activations(image)
    direction, size = image, 0.0
    for _ in range(POWER_STEPS):
        norm = float(direction.norm())
        if norm == 0.0:
            break
        pushed = push_forward(graph, values, direction / norm)  # [1, d]
        size = float(pushed.norm())
        direction = pulled_through(graph, values, pushed)
    return size


def push_forward(graph: Graph, values: list[Tensor], direction: Tensor) -> Tensor:
    """``J direction`` [1, d] for ``direction`` [1, C, h, w], at the image with these ``values``."""
    moved: list[Tensor] = []
    for node in graph.nodes:
        match node:
            case Input():
                moved.append(direction)
            case Affine():
                moved.append(node.linear.apply(moved[node.source]))
            case Activation():
                slopes = node.function.derivative(values[node.source])
                moved.append(slopes * moved[node.source])
            case Sum():
                moved.append(moved[node.left] + moved[node.right])
            case Joint():
                raise only_by_constants(node)
    return moved[-1].flatten(1)
