"""Maxima and minima of activations, and the sorting of groups (MaxMin, GroupSort)."""

from __future__ import annotations

import math

import numpy as np
import onnx

from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maxima import Columns, extreme, in_order
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.moving import concatenated
from reaas_bounds.graph.operators.options import Operator, axes_of, axis_of, options, require
from reaas_bounds.graph.sparse import Sparse, stacked
from reaas_bounds.graph.window import Shape

# Entries of one sort: their comparisons are 21 layers of as many neurons as there are entries.
LARGEST_GROUP = 64


def _extreme_of_inputs(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``Max`` or ``Min`` of activations of one shape."""
    options(node)
    for name in node.input:
        require(node, name in builder.index, "a constant")
    found = [builder.index[name] for name in node.input]
    shapes = {builder.nodes[index].shape for index in found}
    require(node, len(shapes) == 1, "activations that broadcast")
    shape = shapes.pop()
    origins = [builder.origin(index) for index in found]
    if len({base for base, _ in origins}) == 1:
        everywhere = np.ones(math.prod(shape), dtype=np.bool_)
        matrices = tuple(matrix for _, matrix in origins)
        columns = Columns(origins[0][0], matrices, (everywhere,) * len(found))
    else:
        joint = concatenated(builder, found, 0, label(node))
        groups = np.arange(len(found) * math.prod(shape)).reshape(len(found), -1).T
        columns = Columns.of_groups(*builder.origin(joint), groups)
    largest = node.op_type == "Max"
    builder.index[node.output[0]] = extreme(builder, columns, shape, label(node), largest=largest)


def _reduced(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """``ReduceMax`` or ``ReduceMin`` over some axes."""
    given = options(node, axes=(), keepdims=1, noop_with_empty_axes=0)
    shape = builder.shape(node)
    axes = axes_of(builder, node, given["axes"], len(shape))
    require(node, len(axes) > 0, "no axes")
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    groups = np.arange(math.prod(shape)).reshape(shape).transpose(*kept, *axes)
    groups = groups.reshape(math.prod(shape[axis] for axis in kept), -1)
    output: Shape = tuple(shape[axis] for axis in kept)
    if given["keepdims"]:
        output = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    columns = Columns.of_groups(*builder.origin(builder.source(node)), groups)
    largest = node.op_type == "ReduceMax"
    builder.index[node.output[0]] = extreme(builder, columns, output, label(node), largest=largest)


def _top_k(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """The largest or smallest entries in order: how a sort of groups is written."""
    given = options(node, axis=-1, largest=1, sorted=1)
    require(node, given["sorted"] == 1, "sorted=0")
    shape = builder.shape(node)
    axis = axis_of(node, given["axis"], len(shape))
    size, count = shape[axis], builder.integers(node, 1)
    require(node, size <= LARGEST_GROUP, f"{size} entries to sort, more than {LARGEST_GROUP}")
    require(node, len(count) == 1 and 1 <= count[0] <= size, f"k={count} of {size}")
    rest = shape[:axis] + shape[axis + 1 :]
    groups = np.moveaxis(np.arange(math.prod(shape)).reshape(shape), axis, -1).reshape(-1, size)
    columns = Columns.of_groups(*builder.origin(builder.source(node)), groups)
    ranks = in_order(builder, columns, rest or (1,), label(node))
    chosen = ranks.matrices if given["largest"] else ranks.matrices[::-1]
    places = np.arange(count[0] * math.prod(rest)).reshape(count[0], *rest)
    matrix = stacked(chosen[: count[0]])[np.moveaxis(places, 0, axis).ravel()]
    output = (*shape[:axis], count[0], *shape[axis + 1 :])
    linear = Sparse.of(matrix, builder.nodes[ranks.base].shape, output)
    builder.index[node.output[0]] = builder.linear(ranks.base, linear, label(node))


SORTING: dict[str, Operator] = {
    "Max": _extreme_of_inputs,
    "Min": _extreme_of_inputs,
    "ReduceMax": _reduced,
    "ReduceMin": _reduced,
    "TopK": _top_k,
}
