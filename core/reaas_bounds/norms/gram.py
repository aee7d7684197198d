"""Gram matrix of a linear map's rows, without the products that are zero anyway."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.rows import unit_rows
from reaas_bounds.graph.window import Shape, Window, crop, union, widen

# Blocks of rows, at most: their number squared is the number of products, each of which should be
# large enough that the time is spent inside of it.
BLOCKS = 64


@dataclass(frozen=True, eq=False)
class _Block:
    """Some rows [m, *window of the input's shape] that are zero outside ``window``."""

    values: Tensor
    window: Window | None


def row_gram(linear: LinearMap) -> Tensor:
    """``W W^T`` [k, k] of a map with k outputs, rows in an order of their own; float64.

    Rows of a convolution are local: two pixels' rows meet in the intersection of their windows,
    and nothing else is multiplied. Every entry is one inner product, as in a dense product.
    """
    blocks = list(_blocks(linear))
    ends = list(itertools.accumulate((len(block.values) for block in blocks), initial=0))
    gram = torch.zeros(ends[-1], ends[-1], dtype=torch.float64)
    for i, first in enumerate(blocks):
        for j, second in enumerate(blocks[: i + 1]):
            here, there = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
            gram[here, there] = _product(first, second)
            if i != j:
                gram[there, here] = gram[here, there].T
    return gram


def _blocks(linear: LinearMap) -> Iterator[_Block]:
    """All rows of the map, those of neighbouring pixels together if there are many."""
    outputs = linear.output_shape
    together = -(-math.prod(outputs[1:]) // BLOCKS)
    found: list[_Block] = []
    for rows in unit_rows(torch.ones(1, *outputs, dtype=torch.bool), max(1, outputs[0])):
        found.append(_Block(*linear.pull(rows.values, rows.window)))
        if len(found) == together:
            yield _merged(found, linear.input_shape)
            found = []
    if found:
        yield _merged(found, linear.input_shape)


def _merged(blocks: list[_Block], shape: Shape) -> _Block:
    """Several blocks as one, in a window that holds all of theirs."""
    window = blocks[0].window
    for block in blocks[1:]:
        window = union(window, block.window)
    values = torch.cat([widen(block.values, block.window, window, shape) for block in blocks])
    if window is None and len(shape) == 3:
        window = Window(0, 0, *shape[1:])
    return _Block(values, window)


def _product(first: _Block, second: _Block) -> Tensor | float:
    """Inner products of all pairs of rows [m, m']; 0 where their windows do not meet."""
    a, b = first.window, second.window
    if a is None or b is None:  # flat inputs have no windows
        return first.values.flatten(1) @ second.values.flatten(1).T
    met = _intersection(a, b)
    if met is None:
        return 0.0
    rows = crop(first.values, _within(met, a)).flatten(1)
    others = crop(second.values, _within(met, b)).flatten(1)
    return rows @ others.T


def _intersection(a: Window, b: Window) -> Window | None:
    top, left = max(a.top, b.top), max(a.left, b.left)
    height = min(a.top + a.height, b.top + b.height) - top
    width = min(a.left + a.width, b.left + b.width) - left
    return Window(top, left, height, width) if height > 0 and width > 0 else None


def _within(inner: Window, outer: Window) -> Window:
    """``inner`` as seen from the corner of ``outer``."""
    return Window(inner.top - outer.top, inner.left - outer.left, inner.height, inner.width)
