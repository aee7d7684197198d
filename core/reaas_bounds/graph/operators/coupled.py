"""Products of two activations, softmax, and normalisation by their own statistics.

What they have is a constant on a bounded set of images (``graph/coupling``).
"""

from __future__ import annotations

import math

import onnx

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.builder import ZERO, GraphBuilder
from reaas_bounds.graph.coupling import (
    Coupling,
    MatrixProduct,
    Product,
    Softmax,
    Standardisation,
)
from reaas_bounds.graph.maps import Scaling
from reaas_bounds.graph.nodes import Affine, Joint
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.operators.elementwise import fitting, scaled
from reaas_bounds.graph.operators.integers import whole_numbers
from reaas_bounds.graph.operators.linear import by_matrix, channels
from reaas_bounds.graph.operators.options import Operator, axis_of, options, require
from reaas_bounds.graph.window import Shape


def _mul(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """By a constant, or of two activations of one rank, which may broadcast: a gate, a square."""
    options(node)
    if any(name in builder.constants for name in node.input):
        scaled(builder, node)
        return
    found = builder.source(node, 0), builder.source(node, 1)
    left, right = (builder.nodes[index].shape for index in found)
    fits = len(left) == len(right)
    fits = fits and all(1 in (a, b) or a == b for a, b in zip(left, right, strict=True))
    require(node, fits, f"activations {list(left)} and {list(right)}")
    function = Product(left, right)
    _joint(builder, node, found, function.shape, function)


def _matmul(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """By a constant matrix, or of two stacks of matrices, one of each for every image."""
    options(node)
    if any(name in builder.constants for name in node.input):
        by_matrix(builder, node)
        return
    found = builder.source(node, 0), builder.source(node, 1)
    left, right = (builder.nodes[index].shape for index in found)
    fits = len(left) == len(right) >= 2 and left[:-2] == right[:-2] and left[-1] == right[-2]
    require(node, fits, f"activations {list(left)} and {list(right)}")
    function = MatrixProduct(left, right)
    _joint(builder, node, found, function.shape, function)


def _joint(
    builder: GraphBuilder,
    node: onnx.NodeProto,
    found: tuple[int, ...],
    shape: Shape,
    function: Coupling,
) -> None:
    builder.push(node, Joint(found, shape, function))


def _softmax(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    shape = builder.shape(node)
    axis = axis_of(node, options(node, axis=-1)["axis"], len(shape))
    _joint(builder, node, (builder.source(node),), shape, Softmax(shape, axis))


def _epsilon(node: onnx.NodeProto, value: object) -> float:
    """What keeps the division from zero; it bounds how fast the operator moves."""
    epsilon = float(value)  # type: ignore[arg-type]
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise UnsupportedOperatorError(label(node), f"{node.op_type} with epsilon={epsilon:g}")
    return epsilon


def _standardised(
    builder: GraphBuilder, node: onnx.NodeProto, length: int, epsilon: float
) -> tuple[int, Shape]:
    """The first input with each group of ``length`` neighbours standardised."""
    source, shape = builder.source(node), builder.shape(node)
    function = Standardisation(shape, length, epsilon, node.op_type)
    return builder.append(Joint((source,), shape, function), label(node)), shape


def _layer_normalization(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, axis=-1, epsilon=1e-5, stash_type=1)
    require(node, given["stash_type"] == 1, f"stash_type={given['stash_type']}")
    shape = builder.shape(node)
    axis = axis_of(node, given["axis"], len(shape))
    length = math.prod(shape[axis:])
    found, shape = _standardised(builder, node, length, _epsilon(node, given["epsilon"]))
    scale = builder.weight(node, 1)
    _per_entry(node, scale.shape, shape[axis:])
    shift = ZERO
    if builder.has(node, 2):
        shift = builder.weight(node, 2)
        _per_entry(node, shift.shape, shape[axis:])
    linear = Scaling(fitting(node, scale, shape), shape)
    builder.push(node, Affine(found, linear, shift, shift.abs()))


def _per_entry(node: onnx.NodeProto, given: tuple[int, ...], wanted: Shape) -> None:
    if tuple(given) != wanted:
        raise InvalidModelError(
            f"node {label(node)!r}: parameters {list(given)} for groups {list(wanted)}"
        )


def _instance_normalization(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    epsilon = _epsilon(node, options(node, epsilon=1e-5)["epsilon"])
    shape = builder.shape(node)
    require(node, len(shape) >= 2, f"an activation {list(shape)}")
    found, shape = _standardised(builder, node, math.prod(shape[1:]), epsilon)
    scale, shift = (channels(node, builder.weight(node, k), shape) for k in (1, 2))
    builder.push(node, Affine(found, Scaling(scale, shape), shift, shift.abs()))


def _group_normalization(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    """Of opset 21 on, with scale and shift for each channel."""
    given = options(node, epsilon=1e-5, num_groups=None, stash_type=1)
    require(node, given["stash_type"] == 1, f"stash_type={given['stash_type']}")
    shape, groups = builder.shape(node), given["num_groups"]
    fits = isinstance(groups, int) and groups > 0 and shape[0] % groups == 0 and len(shape) >= 2
    require(node, fits, f"num_groups={groups} of {shape[0]} channels")
    scale, shift = (builder.weight(node, k) for k in (1, 2))
    require(node, scale.numel() == shape[0], f"{scale.numel()} scales for {shape[0]} channels")
    epsilon = _epsilon(node, given["epsilon"])
    found, shape = _standardised(builder, node, math.prod(shape) // groups, epsilon)
    factor, bias = channels(node, scale, shape), channels(node, shift, shape)
    builder.push(node, Affine(found, Scaling(factor, shape), bias, bias.abs()))


COUPLED: dict[str, Operator] = {
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
    "Mul": whole_numbers(_mul),
    "Softmax": _softmax,
}
