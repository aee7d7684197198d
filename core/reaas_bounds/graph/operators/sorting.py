"""Maxima and minima of activations, and the sorting of pairs (MaxMin, GroupSort)."""

from __future__ import annotations

import math

import numpy as np
import onnx
from numpy.typing import NDArray

from reaas_bounds.errors import UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maxima import Columns, extreme
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.moving import concatenated
from reaas_bounds.graph.operators.options import Operator, axes_of, axis_of, options, require
from reaas_bounds.graph.window import Shape


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
    """Both of two entries in order: how a sort of pairs is written."""
    given = options(node, axis=-1, largest=1, sorted=1)
    shape = builder.shape(node)
    axis = axis_of(node, given["axis"], len(shape))
    count = builder.integers(node, 1)
    if count != [2] or shape[axis] != 2 or not given["sorted"]:
        raise UnsupportedOperatorError(
            label(node), f"TopK of {count} among {shape[axis]}; only sorted pairs"
        )
    pairs = _pairs(shape, axis)
    columns = Columns.of_groups(*builder.origin(builder.source(node)), pairs)
    half = tuple(1 if k == axis else size for k, size in enumerate(shape))
    order = (True, False) if given["largest"] else (False, True)
    ends = [extreme(builder, columns, half, label(node), largest=first) for first in order]
    builder.index[node.output[0]] = concatenated(builder, ends, axis, label(node))


def _pairs(shape: Shape, axis: int) -> NDArray[np.int64]:
    """Flat indices [pairs, 2] of the entries along ``axis``."""
    entries = np.arange(math.prod(shape)).reshape(shape)
    return np.moveaxis(entries, axis, -1).reshape(-1, 2)


SORTING: dict[str, Operator] = {
    "Max": _extreme_of_inputs,
    "Min": _extreme_of_inputs,
    "ReduceMax": _reduced,
    "ReduceMin": _reduced,
    "TopK": _top_k,
}
