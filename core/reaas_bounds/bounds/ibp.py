"""Interval bound propagation (Gowal et al., 2018) of the change of every activation."""

from __future__ import annotations

from torch import Tensor

from reaas_bounds.bounds.centre import Centre, Interval
from reaas_bounds.graph.activation import Entrywise
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.nodes import Activation, Affine, Input, Joint, Sum, only_by_constants
from reaas_bounds.interruption import checkpoint


def ibp_bound(centre: Centre, radii: Tensor) -> Tensor:
    """``B(r) >= max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``, [n]; deterministic.

    Theorem: every activation's change is enclosed by an interval: exact for the first affine map
    (norm of the row times r), then ``|W|`` times the half-width, the image under each activation;
    the 2-norm of the last intervals' farthest ends bounds the change of the feature.
    """
    intervals: list[Interval] = []
    for index in range(len(centre.graph.nodes)):
        intervals.append(propagate(centre, index, intervals, radii))
    return intervals[-1].norm()


def propagate(centre: Centre, index: int, intervals: list[Interval], radii: Tensor) -> Interval:
    """Interval of node ``index`` from those of the nodes that it reads; ``radii`` [n]."""
    checkpoint()
    node = centre.graph.nodes[index]
    match node:
        case Input():
            size = _per_image(radii, node.shape).expand(-1, *node.shape)
            return Interval(-size, size)
        case Affine() if index in centre.first_rows:
            size = _per_image(radii, node.shape) * centre.first_rows[index]
            return Interval(-size, size).widened(centre.scale(index))
        case Affine():
            return _through(node.linear, intervals[node.source]).widened(centre.scale(index))
        case Activation():
            return _image(node.function, intervals[node.source], centre.values[node.source])
        case Sum():
            total = intervals[node.left] + intervals[node.right]
            return total.widened(centre.scale(index))
        case Joint():
            raise only_by_constants(node)


def _per_image(radii: Tensor, shape: tuple[int, ...]) -> Tensor:
    return radii.reshape(-1, *(1 for _ in shape))


def _through(linear: LinearMap, interval: Interval) -> Interval:
    middle = linear.apply((interval.lower + interval.upper) / 2)
    half = linear.absolute().apply((interval.upper - interval.lower) / 2)
    return Interval(middle - half, middle + half)


def _image(function: Entrywise, interval: Interval, at: Tensor) -> Interval:
    """Change of the function when its argument moves from ``at`` inside ``interval``."""
    lower, upper = function.image(at + interval.lower, at + interval.upper)
    value = function.value(at)
    return Interval(lower - value, upper - value)
