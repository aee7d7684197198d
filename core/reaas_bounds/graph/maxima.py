"""Maxima and minima as orthogonal maps around an activation with slopes 1 and -1.

With ``u = (a + b) / sqrt 2`` and ``v = (a - b) / sqrt 2``, both orthogonal: ``max(a, b) = (u + |v|)
/ sqrt 2`` and ``min(a, b) = (u - |v|) / sqrt 2``. So a maximum over disjoint windows, the pair
(max, min), or a sort, has norm 1. ONNX Runtime does not round here: the maps carry ``terms`` 0.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from reaas_bounds.graph.activation import TwoSlope
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.nodes import Activation
from reaas_bounds.graph.sparse import Matrix, Sparse, selection, stacked
from reaas_bounds.graph.window import Shape

_HALF = math.sqrt(0.5)


@dataclass(frozen=True, eq=False)
class Columns:
    """Values to compare: matrices [outputs, numel(node ``base``)], and where there is one at all.

    ``present`` [outputs] each: an output without a value in one column has none in later ones.
    """

    base: int
    matrices: tuple[Matrix, ...]
    present: tuple[NDArray[np.bool_], ...]

    @classmethod
    def of_groups(cls, base: int, matrix: Matrix, groups: NDArray[np.int64]) -> Columns:
        """Rows ``groups`` [outputs, k] (-1: none) of ``matrix`` [entries, numel(base)]."""
        packed = np.take_along_axis(groups, np.argsort(groups < 0, axis=1, kind="stable"), axis=1)
        nothing = scipy.sparse.csr_array((1, matrix.shape[1]))
        rows = scipy.sparse.vstack([matrix, nothing], format="csr")  # -1 is the last row
        return cls(base, tuple(rows[column] for column in packed.T), tuple(packed.T >= 0))


def extreme(
    builder: GraphBuilder, columns: Columns, shape: Shape, name: str, *, largest: bool
) -> int:
    """Index of the entrywise maximum (or minimum) over ``columns``, an activation of ``shape``."""
    while len(columns.matrices) > 1:
        columns = _halved(builder, columns, shape, name, 1.0 if largest else -1.0)
    inputs = builder.nodes[columns.base].shape
    return builder.linear(columns.base, Sparse.of(columns.matrices[0], inputs, shape), name)


def in_order(builder: GraphBuilder, columns: Columns, shape: Shape, name: str) -> Columns:
    """``columns``, all present, sorted entrywise, the largest first; each of ``shape``.

    Batcher's network of comparisons: a rotation around an activation for each of its layers, so
    that the whole has norm 1 like the sort itself.
    """
    for layer in _comparisons(len(columns.matrices)):
        columns = _compared(builder, columns, layer, shape, name)
    return columns


def _comparisons(count: int) -> Iterator[list[tuple[int, int]]]:
    """Layers of disjoint pairs (i, j), i < j, that sort ``count`` values (Knuth, vol. 3, 5.3.4)."""
    sizes = [2**k for k in range((count - 1).bit_length())]
    for size in sizes:
        for step in reversed([s for s in sizes if s <= size]):
            starts = [
                i + j
                for j in range(step % size, count - step, 2 * step)
                for i in range(min(step, count - j - step))
            ]
            merged = 2 * size
            yield [(k, k + step) for k in starts if k // merged == (k + step) // merged]


def _compared(
    builder: GraphBuilder,
    columns: Columns,
    pairs: list[tuple[int, int]],
    shape: Shape,
    name: str,
) -> Columns:
    """The columns with the larger one of each pair first, over a new activation."""
    matrices, count = columns.matrices, len(columns.matrices)
    alone = [k for k in range(count) if k not in {k for pair in pairs for k in pair}]
    sums = [_HALF * (matrices[i] + matrices[j]) for i, j in pairs]
    differences = [_HALF * (matrices[i] - matrices[j]) for i, j in pairs]
    stack = stacked([*sums, *(matrices[k] for k in alone), *differences])
    base = _rectified(builder, columns.base, stack, shape, (count - len(pairs), len(pairs)), name)
    places = np.arange(count * math.prod(shape)).reshape(count, -1)
    entries = [selection(place, places.size) for place in places]
    found = dict(zip(alone, entries[len(pairs) :], strict=False))
    for (i, j), total, difference in zip(pairs, entries, entries[-len(pairs) :], strict=False):
        found[i], found[j] = _HALF * (total + difference), _HALF * (total - difference)
    return Columns(base, tuple(found[k] for k in range(count)), columns.present)


def _halved(
    builder: GraphBuilder, columns: Columns, shape: Shape, name: str, sign: float
) -> Columns:
    """One round of the tournament: half as many columns, over a new activation."""
    first, second = columns.matrices[0::2], columns.matrices[1::2]
    present, paired = columns.present[0::2], columns.present[1::2]
    pairs, count = len(second), len(first) + len(second)
    outer = [_diagonal(here, 1.0) for here in present]
    for place, both in enumerate(paired):
        outer[place] = _diagonal(present[place] & ~both, 1.0) + _diagonal(both, _HALF)
    inner = [_diagonal(both, _HALF) for both in paired]
    sums = [w @ (a + b) for w, a, b in zip(outer, first, second, strict=False)]
    sums += first[pairs:]
    differences = [w @ (a - b) for w, a, b in zip(inner, first, second, strict=False)]
    stack = stacked([*sums, *differences])
    base = _rectified(builder, columns.base, stack, shape, (len(first), len(second)), name)
    empty = scipy.sparse.csr_array(outer[0].shape)
    winners = []
    for place, weight in enumerate(outer):
        blocks = [empty] * count
        blocks[place] = weight
        if place < pairs:
            blocks[len(first) + place] = sign * inner[place]
        winners.append(scipy.sparse.csr_array(scipy.sparse.hstack(blocks, format="csr")))
    return Columns(base, tuple(winners), present)


def _diagonal(where: NDArray[np.bool_], value: float) -> Matrix:
    """``value`` on the diagonal at the places ``where``."""
    places = np.flatnonzero(where)
    entries = np.full(len(places), value)
    return scipy.sparse.csr_array((entries, (places, places)), shape=(len(where), len(where)))


def _rectified(
    builder: GraphBuilder,
    base: int,
    stack: Matrix,
    shape: Shape,
    counts: tuple[int, int],
    name: str,
) -> int:
    """The activation of ``stack``: identity on its first ``counts[0]`` parts, then ``|v|``.

    Made once for all that compare the same: a maximum and a minimum share it.
    """
    parts = (stack.indptr, stack.indices, stack.data)
    key = (
        base,
        hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).digest(),
    )
    if key not in builder.pairs:
        flat = shape[:1] if len(shape) == 1 else (math.prod(shape[:-2]), *shape[-2:])
        flat = flat if len(shape) != 2 else (math.prod(shape),)
        joint = (sum(counts) * flat[0], *flat[1:])
        linear = Sparse.of(stack, builder.nodes[base].shape, joint)
        seen = builder.linear(base, linear, name)
        ones = torch.ones(flat[0], dtype=torch.float64)
        slopes = torch.cat([ones] * counts[0] + [-ones] * counts[1])
        alpha = slopes.reshape(-1, *(1 for _ in joint[1:]))
        builder.pairs[key] = builder.append(Activation(seen, joint, TwoSlope(alpha, "Max")), name)
    return builder.pairs[key]
