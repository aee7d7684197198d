"""Operators that give the same entries another shape, and constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maps import Reshape
from reaas_bounds.graph.onnx_file import label, read_tensor, type_name
from reaas_bounds.graph.operators.integers import BATCH, numbers, of_constant, shape_of
from reaas_bounds.graph.operators.options import Operator, axes_of, options, require
from reaas_bounds.graph.window import Shape

# Integers that a file may fill an array of its own with; shapes have a few.
MAX_INTEGERS = 64


def _reshaped(builder: GraphBuilder, node: onnx.NodeProto, target: Shape) -> None:
    source, shape = builder.source(node), builder.shape(node)
    found = builder.linear(source, Reshape(shape, target), label(node))
    builder.index[node.output[0]] = found


def _flatten(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    shape = builder.shape(node)
    axis = options(node, axis=1)["axis"]
    require(node, axis == 1 or (axis == -len(shape) and builder.opset >= 11), f"axis={axis}")
    _reshaped(builder, node, (math.prod(shape),))


def _reshape(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, allowzero=0)
    if node.input[0] in builder.constants:
        of_constant(builder, node, lambda array: array.reshape(builder.integers(node, 1)))
        return
    shape = builder.shape(node)
    target: list[Any] = builder.entries(node, 1)
    sizes: list[Any] = [
        ((BATCH, *shape)[k] if k <= len(shape) else 0)
        if size == 0 and not given["allowzero"]
        else size
        for k, size in enumerate(target)
    ]
    require(node, len(sizes) > 1 and sizes[0] in (BATCH, -1), f"shape={target}")
    known = math.prod(size for size in sizes[1:] if size != -1 and size != BATCH)
    free = sizes[1:].count(-1)
    whole = free == 0 or (free == 1 and sizes[0] == BATCH)
    fits = BATCH not in sizes[1:] and known > 0 and whole
    require(node, fits and math.prod(shape) % known == 0, f"shape={target}")
    rest = math.prod(shape) // known
    require(node, free == 1 or rest == 1, f"shape={target}")
    _reshaped(builder, node, tuple(rest if size == -1 else int(size) for size in sizes[1:]))


def _squeeze(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, axes=())["axes"]
    if node.input[0] in builder.constants:
        stated = given or (builder.integers(node, 1) if builder.has(node, 1) else None)
        of_constant(builder, node, lambda array: np.squeeze(array, stated and tuple(stated)))
        return
    shape = builder.shape(node)
    axes = axes_of(builder, node, given, len(shape))
    require(node, len(axes) > 0 and all(shape[axis] == 1 for axis in axes), f"axes {list(axes)}")
    _reshaped(builder, node, tuple(s for axis, s in enumerate(shape) if axis not in axes))


def _unsqueeze(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, axes=())["axes"]
    if node.input[0] in builder.constants:
        axes = given or builder.integers(node, 1)
        of_constant(builder, node, lambda array: np.expand_dims(array, tuple(axes)))
        return
    shape = builder.shape(node)
    added = len(given) if given else len(builder.integers(node, 1))
    axes = axes_of(builder, node, given, len(shape) + added)
    sizes = iter(shape)
    _reshaped(
        builder, node, tuple(1 if k in axes else next(sizes) for k in range(len(shape) + added))
    )


def _alias(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """Identity, or Dropout, which is the identity outside of training."""
    if node.op_type == "Dropout":
        ratio = options(node, seed=0, ratio=0.5)["ratio"]
        training = builder.has(node, 2) and bool(builder.constant(node, 2).any())
        require(node, not training, "training_mode")
        ratio = builder.constant(node, 1) if builder.has(node, 1) else np.array(ratio)
        require(node, ratio.size == 1 and 0 <= ratio.item() < 1, f"ratio={ratio.tolist()}")
    builder.index[node.output[0]] = builder.source(node)


def _identity(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """Identity of an activation or of a constant."""
    if node.input[0] in builder.constants:
        builder.constants[node.output[0]] = builder.constants[node.input[0]]
    else:
        _alias(builder, node)


def _cast(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """To float32, which activations are already; or integers of a shape to int64."""
    target = options(node, to=None, saturate=1, round_mode=b"up")["to"]
    whole = node.input[0] in builder.constants and numbers(builder.constants[node.input[0]])
    wanted = onnx.TensorProto.INT64 if whole else onnx.TensorProto.FLOAT
    kind = type_name(target) if target else "nothing"
    require(node, target == wanted, f"to={kind}")
    _identity(builder, node)


def _constant(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, value=None, value_int=None, value_ints=None, value_float=None)
    stated = [item for item in given.items() if item[1] is not None]
    require(node, len(stated) == 1, f"{len(stated)} values of a known kind")
    [(name, value)] = stated
    if name == "value":
        array = read_tensor(value, node.output[0])
    else:
        array = np.array(value, dtype=np.float32 if name == "value_float" else np.int64)
    builder.constants[node.output[0]] = array


def _constant_of_shape(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """Integers of a constant shape: paddings are put together with them."""
    value = options(node, value=None)["value"]
    require(node, value is not None, "no value")
    fill = read_tensor(value, node.output[0])
    require(node, numbers(fill) and fill.size == 1, "a value that is not one INT64")
    size = builder.integers(node, 0)
    require(node, len(size) == 1 and 0 <= size[0] <= MAX_INTEGERS, f"shape={size}")
    builder.constants[node.output[0]] = np.full(size, fill.item(), dtype=np.int64)


SHAPES: dict[str, Operator] = {
    "Cast": _cast,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _alias,
    "Flatten": _flatten,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": shape_of,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
