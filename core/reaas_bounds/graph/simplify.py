"""Products of linear maps written with as few factors as is exact."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.linear import LinearMap, compose
from reaas_bounds.graph.maps import Convolution, Dense, Reshape, Scaling, materialize
from reaas_bounds.graph.sparse import Sparse, as_convolution, product

# A product that starts at so few inputs is kept as a matrix: its norm and rows are then exact.
MATRIX_COLUMNS = 1024


def simplified(factors: tuple[LinearMap, ...], *, at_input: bool) -> LinearMap:
    """The product of ``factors`` (first applied first), neighbours merged where that is exact.

    ``at_input``: the product starts at the image itself; a small image makes it one matrix.
    """
    merged: list[LinearMap] = []
    for factor in _runs(factors):
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


def _runs(factors: tuple[LinearMap, ...]) -> list[LinearMap]:
    """``factors`` with sparse neighbours and the reshapes between them as one sparse map each.

    One that mixes channels alike in all pixels becomes a convolution, which merges with others.
    """
    runs: list[LinearMap] = []
    for factor in factors:
        last = runs[-1] if runs else None
        if isinstance(factor, Sparse) and isinstance(last, Sparse):
            runs[-1] = product(last, factor)
        elif isinstance(factor, Reshape) and isinstance(last, Sparse):
            runs[-1] = last.reshaped(last.input_shape, factor.output_shape)
        elif isinstance(factor, Sparse) and isinstance(last, Reshape):
            runs[-1] = factor.reshaped(last.input_shape, factor.output_shape)
        else:
            runs.append(factor)
    return [_channelwise(factor) for factor in runs]


def _channelwise(factor: LinearMap) -> LinearMap:
    found = as_convolution(factor) if isinstance(factor, Sparse) else None
    return factor if found is None else found


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
        case Convolution(), Convolution() if _pointwise(second) and first.groups == 1:
            mixed = torch.einsum("ochw,po->pchw", first.weight, second.weight[:, :, 0, 0])
            return first.reweighted(mixed)
        case Convolution(), Convolution() if _pointwise(first) and second.groups == 1:
            mixed = torch.einsum("ochw,ci->oihw", second.weight, first.weight[:, :, 0, 0])
            return second.reweighted(mixed, first.input_shape)
        case Convolution(), Dense() if _pointwise(first):
            planes = second.weight.reshape(-1, *second.input_shape)  # [d, C, H, W]
            mixed = torch.einsum("dchw,ci->dihw", planes, first.weight[:, :, 0, 0])
            return Dense(mixed.flatten(1), first.input_shape, second.output_shape)
        case Dense(), Sparse():
            columns = second.apply(first.weight.T).flatten(1)  # [inputs, outputs]
            return Dense(columns.T, first.input_shape, second.output_shape)
        case Sparse(), Dense():
            weight = first.adjoint(second.weight.reshape(-1, *first.output_shape)).flatten(1)
            return Dense(weight, first.input_shape, second.output_shape)
        case Reshape(), Reshape():
            return Reshape(first.input_shape, second.output_shape)
        case _:
            return None


def _pointwise(linear: Convolution) -> bool:
    """Whether ``linear`` is a matrix between channels, the same in every pixel."""
    geometry = (tuple(linear.weight.shape[2:]), linear.stride, linear.pads, linear.groups)
    return geometry == ((1, 1), (1, 1), (0, 0, 0, 0), 1)


def _per_channel(scaling: Scaling) -> Tensor | None:
    """The factor [C] of each channel, or None if it varies inside a plane."""
    shape = scaling.input_shape
    if len(shape) != 3 or (scaling.factor.dim() >= 2 and scaling.factor.shape[-2:] != (1, 1)):
        return None
    if scaling.factor.dim() == 1 and scaling.factor.numel() > 1:
        return None
    return scaling.factor.expand(shape[0], 1, 1).flatten()
