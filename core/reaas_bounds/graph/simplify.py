"""Products of linear maps written with as few factors as is exact."""

from __future__ import annotations

import math

from torch import Tensor

from reaas_bounds.graph.linear import LinearMap, compose
from reaas_bounds.graph.maps import Convolution, Dense, Reshape, Scaling, materialize

# A product that starts at so few inputs is kept as a matrix: its norm and rows are then exact.
MATRIX_COLUMNS = 1024


def simplified(factors: tuple[LinearMap, ...], *, at_input: bool) -> LinearMap:
    """The product of ``factors`` (first applied first), neighbours merged where that is exact.

    ``at_input``: the product starts at the image itself; a small image makes it one matrix.
    """
    merged: list[LinearMap] = []
    for factor in factors:
        merged.append(factor)
        while len(merged) > 1:
            pair = _merge(merged[-2], merged[-1])
            if pair is None:
                break
            merged[-2:] = [pair]
    product = compose(merged)
    if at_input and len(merged) > 1 and math.prod(product.input_shape) <= MATRIX_COLUMNS:
        return materialize(product)
    return product


def _merge(first: LinearMap, second: LinearMap) -> LinearMap | None:
    """``second`` after ``first`` as one elementary map, if it is one."""
    match first, second:
        case Scaling(), Scaling():
            return Scaling(first.factor * second.factor, first.input_shape)
        case Scaling(), Convolution() if (factor := _per_channel(first)) is not None:
            grouped = factor.reshape(second.groups, -1)  # [g, i/g]
            each = grouped.repeat_interleave(second.output_shape[0] // second.groups, 0)
            return second.reweighted(second.weight * each[:, :, None, None])
        case Convolution(), Scaling() if (factor := _per_channel(second)) is not None:
            return first.reweighted(first.weight * factor[:, None, None, None])
        case Scaling(), Dense():
            columns = first.factor.expand(first.input_shape).flatten()
            return Dense(second.weight * columns, first.input_shape, second.output_shape)
        case Dense(), Scaling():
            rows = second.factor.expand(second.input_shape).flatten()
            return Dense(first.weight * rows[:, None], first.input_shape, second.output_shape)
        case Reshape(), Dense():
            return Dense(second.weight, first.input_shape, second.output_shape)
        case Dense(), Reshape():
            return Dense(first.weight, first.input_shape, second.output_shape)
        case Reshape(), Reshape():
            return Reshape(first.input_shape, second.output_shape)
        case _:
            return None


def _per_channel(scaling: Scaling) -> Tensor | None:
    """The factor [C] of each channel, or None if it varies inside a plane."""
    shape = scaling.input_shape
    if len(shape) != 3 or (scaling.factor.dim() >= 2 and scaling.factor.shape[-2:] != (1, 1)):
        return None
    if scaling.factor.dim() == 1 and scaling.factor.numel() > 1:
        return None
    return scaling.factor.expand(shape[0], 1, 1).flatten()
