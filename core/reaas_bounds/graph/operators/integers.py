"""Arithmetic of shapes: what a file computes of them before it reshapes or slices.

The size of the batch is no number here. It may be moved about, and where a computation needs its
value the file is refused: a reshape is then the same for every batch.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.options import Operator, options, require

BATCH = "N"
Array = NDArray[Any]

_ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
}
_LEAST, _MOST = -(2**63), 2**63 - 1


def is_shape(array: Array) -> bool:
    """Whether ``array`` was computed from the shape of an activation."""
    return array.dtype == np.object_


def numbers(array: Array) -> bool:
    """Whether ``array`` holds integers, and may be part of such a computation."""
    return is_shape(array) or array.dtype == np.int64


def whole_numbers(otherwise: Operator) -> Operator:
    """Fold arithmetic of two constant integers; anything else is an activation's."""

    def lower(builder: GraphBuilder, node: onnx.NodeProto) -> None:
        arrays = [builder.constants.get(name) for name in node.input]
        if any(array is None or not numbers(array) for array in arrays):
            otherwise(builder, node)
            return
        left, right = (np.asarray(array, dtype=object) for array in arrays)
        if any(not isinstance(entry, int) for entry in [*left.flat, *right.flat]):
            raise UnsupportedOperatorError(label(node), f"{node.op_type} of the batch size")
        if node.op_type == "Div":
            # Of sizes: positive. ONNX truncates towards zero where Python rounds down.
            positive = all(a >= 0 for a in left.flat) and all(b > 0 for b in right.flat)
            require(node, positive, "integers that are negative or zero")
            found = np.asarray(left // right, dtype=object)
        else:
            found = np.asarray(_ARITHMETIC[node.op_type](left, right), dtype=object)
        inside = all(_LEAST <= entry <= _MOST for entry in found.flat)
        require(node, inside, "integers whose result is no INT64")
        builder.constants[node.output[0]] = found

    return lower


def shape_of(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """ONNX ``Shape``: the sizes of an activation, the batch as a symbol."""
    given = options(node, start=0, end=None)
    sizes = np.array([BATCH, *builder.shape(node)], dtype=object)
    builder.constants[node.output[0]] = sizes[given["start"] : given["end"]]


def of_constant(
    builder: GraphBuilder, node: onnx.NodeProto, change: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    """``change`` of a constant of integers (shapes are computed with them)."""
    array = builder.constants[node.input[0]]
    require(node, numbers(array), "a constant")
    try:
        builder.constants[node.output[0]] = np.asarray(change(array), dtype=array.dtype)
    except (ValueError, IndexError, KeyError) as error:
        raise InvalidModelError(f"node {label(node)!r} of a constant: {error}") from error
