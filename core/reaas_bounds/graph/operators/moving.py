"""Operators that take entries apart and put them together: nothing is computed or rounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from reaas_bounds.errors import InvalidModelError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.onnx_file import check_activation, label
from reaas_bounds.graph.operators.integers import numbers, of_constant
from reaas_bounds.graph.operators.options import Operator, axis_of, options, require
from reaas_bounds.graph.sparse import Sparse, selection, stacked

Entries = NDArray[np.int64]


def _rearranged(
    builder: GraphBuilder,
    node: onnx.NodeProto,
    change: Callable[[Entries], Entries],
    output: int = 0,
) -> None:
    """The entries of the first input as ``change`` places them (-1: zero)."""
    shape = builder.shape(node)
    places = change(np.arange(math.prod(shape), dtype=np.int64).reshape(shape))
    check_activation(places.shape, node.output[output])
    linear = Sparse.of(selection(places, math.prod(shape)), shape, places.shape)
    found = builder.linear(builder.source(node), linear, label(node))
    builder.index[node.output[output]] = found


def _transpose(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    if node.input[0] in builder.constants:
        perm = options(node, perm=None)["perm"]
        of_constant(builder, node, lambda array: np.transpose(array, perm))
        return
    rank = len(builder.shape(node)) + 1
    order = list(options(node, perm=tuple(reversed(range(rank))))["perm"])
    require(node, sorted(order) == list(range(rank)) and order[0] == 0, f"perm={order}")
    _rearranged(builder, node, lambda entries: entries.transpose([k - 1 for k in order[1:]]))


def _slice(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    starts, ends = builder.integers(node, 1), builder.integers(node, 2)
    steps = builder.integers(node, 4) if builder.has(node, 4) else [1] * len(starts)
    require(node, all(0 < abs(step) < 2**31 for step in steps), f"steps={steps}")
    stated = builder.integers(node, 3) if builder.has(node, 3) else list(range(len(starts)))
    lengths = {len(starts), len(ends), len(steps), len(stated)}
    require(node, len(lengths) == 1, f"{len(starts)} starts, ends, steps and axes of other numbers")
    if node.input[0] in builder.constants:
        cuts = {axis: slice(*cut) for axis, *cut in zip(stated, starts, ends, steps, strict=True)}
        of_constant(builder, node, lambda array: array[cuts[0]])
        return
    rank = len(builder.shape(node))
    places = [slice(None)] * rank
    for axis, start, end, step in zip(stated, starts, ends, steps, strict=True):
        # Beyond the first entry of a reversed axis lies what numpy calls None.
        last = None if step < 0 and end < -(2**31) else end
        at = axis_of(node, axis, rank)
        require(node, places[at] == slice(None), f"axes={stated} that repeat")
        places[at] = slice(start, last, step)
    _rearranged(builder, node, lambda entries: entries[tuple(places)])


def _split(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, axis=0, num_outputs=None)
    shape = builder.shape(node)
    axis = axis_of(node, given["axis"], len(shape))
    count = len(node.output)
    stated = given["num_outputs"]
    if builder.has(node, 1):
        sizes = builder.integers(node, 1)
        require(node, stated is None, "both sizes and num_outputs")
    else:
        wanted = (None,) if builder.opset < 18 else (count,)
        require(node, stated in wanted, f"num_outputs={stated} of {count}")
        even = shape[axis] % count == 0
        require(node, even or stated is not None, f"{count} equal parts of {shape[axis]}")
        each = -(-shape[axis] // count)
        sizes = [each] * (count - 1) + [shape[axis] - each * (count - 1)]
    require(node, sum(sizes) == shape[axis] and min(sizes) > 0, f"parts {sizes} of {shape[axis]}")
    ends = np.cumsum(sizes)
    for output, (size, end) in enumerate(zip(sizes, ends, strict=True)):
        part = partial(np.take, indices=np.arange(end - size, end), axis=axis)
        _rearranged(builder, node, part, output)


def _gather(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    axis = options(node, axis=0)["axis"]
    indices = builder.constant(node, 1)
    if node.input[0] in builder.constants:
        of_constant(builder, node, lambda array: np.asarray(array.take(indices.astype(int), axis)))
        return
    shape = builder.shape(node)
    found = axis_of(node, axis, len(shape))
    inside = indices.dtype == np.int64 and bool((np.abs(indices + 0.5) < shape[found]).all())
    require(node, inside, f"indices outside of {shape[found]} entries")
    _rearranged(builder, node, lambda entries: entries.take(indices, found))


def _pad(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    mode = options(node, mode=b"constant")["mode"].decode(errors="replace")
    shape, pads = builder.shape(node), builder.integers(node, 1)
    filling = builder.weight(node, 2) if builder.has(node, 2) else torch.zeros(1)
    require(node, filling.numel() == 1, f"{filling.numel()} values to fill with")
    value = float(filling)
    require(node, mode in ("constant", "reflect", "edge") and value == 0.0, f"{mode} of {value}")
    rank = len(shape) + 1
    axes = builder.integers(node, 3) if builder.has(node, 3) else list(range(rank))
    axes = [axis + rank if axis < 0 else axis for axis in axes]
    sane = len(pads) == 2 * len(axes) and len(set(axes)) == len(axes)
    require(node, sane and all(0 <= axis < rank for axis in axes), f"axes={axes}, pads={pads}")
    around = [(0, 0)] * rank
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        around[axis] = (before, after)
    require(node, around[0] == (0, 0) and min(pads) >= 0, f"pads={pads}")
    inside = all(max(more) < size for size, more in zip(shape, around[1:], strict=True))
    require(node, mode != "reflect" or inside, f"reflect by pads={pads} of {list(shape)}")
    padded = tuple(size + sum(more) for size, more in zip(shape, around[1:], strict=True))
    check_activation(padded, node.output[0])
    more = {"constant_values": -1} if mode == "constant" else {}
    _rearranged(builder, node, lambda entries: np.pad(entries, around[1:], mode, **more))


def _concat(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    axis = options(node, axis=None)["axis"]
    if all(name in builder.constants for name in node.input):
        parts = [builder.constants[name] for name in node.input]
        require(node, all(numbers(part) for part in parts), "constants")
        builder.constants[node.output[0]] = np.concatenate(parts, axis=axis)
        return
    found = [builder.source(node, position) for position in range(len(node.input))]
    shapes = [builder.nodes[index].shape for index in found]
    at = axis_of(node, axis, len(shapes[0]))
    rest = {(*shape[:at], *shape[at + 1 :]) for shape in shapes}
    if len(rest) > 1:
        raise InvalidModelError(f"node {label(node)!r} joins activations {shapes}")
    builder.index[node.output[0]] = concatenated(builder, found, at, label(node))


def concatenated(builder: GraphBuilder, found: Sequence[int], axis: int, name: str) -> int:
    """Index of the activations ``found`` behind each other along ``axis``.

    Parts of one activation are joined by one map, whose norm can be that of a rotation.
    """
    shapes = [builder.nodes[index].shape for index in found]
    offsets = np.cumsum([0] + [math.prod(shape) for shape in shapes])
    blocks = [
        np.arange(math.prod(shape)).reshape(shape) + offset
        for shape, offset in zip(shapes, offsets[:-1], strict=True)
    ]
    places = np.concatenate(blocks, axis)
    check_activation(places.shape, name)
    order = selection(places, int(offsets[-1]))
    origins = [builder.origin(index) for index in found]
    if len({base for base, _ in origins}) == 1:
        base, joint = origins[0][0], order @ stacked([matrix for _, matrix in origins])
        linear = Sparse.of(joint, builder.nodes[base].shape, places.shape)
        return builder.linear(base, linear, name)
    total: int | None = None
    for index, start, end in zip(found, offsets[:-1], offsets[1:], strict=True):
        embedding = Sparse.of(order[:, start:end], builder.nodes[index].shape, places.shape)
        part = builder.linear(index, embedding, name)
        total = part if total is None else builder.total(total, part, name, disjoint=True)
    assert total is not None
    return total


MOVING: dict[str, Operator] = {
    "Concat": _concat,
    "Gather": _gather,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
