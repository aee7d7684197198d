"""What each ONNX operator was read for: versions, attributes, inputs and outputs.

The meaning of a node changes with the version of its operator, with attributes, and with how many
outputs are asked for (five outputs of BatchNormalization turned training on before opset 14). So
nothing is read by a name alone: a node is held against one table before its operator looks at it,
and what the table does not name is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import AttributeProto, helper

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.onnx_file import label

OLDEST_OPSET = 7  # The oldest that ONNX Runtime serves.
# Factors that ONNX Runtime may multiply into weights, and what is divided by: 1 / sqrt(variance +
# epsilon) of a batch normalisation, a divisor, alpha and beta of a Gemm. Outside of these, what
# float32 loses to underflow on the way is not bounded (see `flushing`).
LEAST_FACTOR, LARGEST_FACTOR = 2.0**-30, 2.0**30
MANY = 1 << 16  # Inputs or outputs of an operator that takes any number of them.


@dataclass(frozen=True)
class Signature:
    """The nodes of one operator that are read.

    Attributes:
        versions: versions of the operator (the opsets that changed it), all with one meaning.
        attributes: attributes that are read; any other one is refused.
        inputs: least and most inputs; the first ``inputs[0]`` may not be left out.
        outputs: most outputs.
    """

    versions: tuple[int, ...]
    attributes: tuple[str, ...] = ()
    inputs: tuple[int, int] = (1, 1)
    outputs: int = 1


# From 21 on, operators that only move entries change with the types that they may move.
_TYPES = (21, 23, 24, 25)
_WINDOW = ("auto_pad", "kernel_shape", "pads", "strides")
_REDUCED = ("axes", "keepdims", "noop_with_empty_axes")
_BINARY = Signature((7, 13, 14), inputs=(2, 2))
_ENTRYWISE = Signature((6, 13))
_SEVERAL = Signature((8, 12, 13), inputs=(1, MANY))

SIGNATURES: dict[str, Signature] = {
    "Abs": _ENTRYWISE,
    "Add": _BINARY,
    "AveragePool": Signature(
        (7, 10, 11, 19, 22), (*_WINDOW, "ceil_mode", "count_include_pad", "dilations")
    ),
    "BatchNormalization": Signature(
        (7, 9, 14, 15), ("epsilon", "momentum", "spatial", "training_mode"), (5, 5)
    ),
    "Cast": Signature((6, 9, 13, 19, 21, 23, 24, 25, 28), ("to", "saturate", "round_mode")),
    "Celu": Signature((12,), ("alpha",)),
    "Clip": Signature((11, 12, 13), inputs=(1, 3)),
    "Concat": Signature((4, 11, 13), ("axis",), (1, MANY)),
    "Constant": Signature(
        (1, 9, 11, 12, 13, 19, *_TYPES),
        ("value", "value_float", "value_int", "value_ints"),
        (0, 0),
    ),
    "ConstantOfShape": Signature((9, 20, *_TYPES), ("value",)),
    "Conv": Signature((1, 11, 22), (*_WINDOW, "dilations", "group"), (2, 3)),
    "ConvTranspose": Signature(
        (1, 11, 22), (*_WINDOW, "dilations", "group", "output_padding", "output_shape"), (2, 3)
    ),
    "Div": _BINARY,
    "Dropout": Signature((7, 10, 12, 13, 22), ("ratio", "seed"), (1, 3)),
    "Elu": Signature((6, 22), ("alpha",)),
    # Erf and Pow are read as parts of a GELU only.
    "Erf": Signature((9, 13)),
    "Expand": Signature((8, 13), inputs=(2, 2)),
    "Flatten": Signature((1, 9, 11, 13, *_TYPES), ("axis",)),
    "Gather": Signature((1, 11, 13), ("axis",), (2, 2)),
    "Gelu": Signature((20,), ("approximate",)),
    "Gemm": Signature((7, 9, 11, 13), ("alpha", "beta", "transA", "transB"), (2, 3)),
    "GlobalAveragePool": Signature((1, 22)),
    "GlobalMaxPool": Signature((1, 22)),
    # Greater and Where are read as parts of a Softplus only.
    "Greater": Signature((7, 9, 13), inputs=(2, 2)),
    # Version 18 has scales for each group.
    "GroupNormalization": Signature((21,), ("epsilon", "num_groups", "stash_type"), (3, 3)),
    "HardSigmoid": Signature((6, 22), ("alpha", "beta")),
    "HardSwish": Signature((14, 22)),
    "Identity": Signature((1, 13, 14, 16, 19, *_TYPES)),
    "InstanceNormalization": Signature((6, 22), ("epsilon",), (3, 3)),
    "LayerNormalization": Signature((17,), ("axis", "epsilon", "stash_type"), (2, 3)),
    "LeakyRelu": Signature((6, 16), ("alpha",)),
    "LpNormalization": Signature((1, 22), ("axis", "p")),
    "MatMul": Signature((1, 9, 13), inputs=(2, 2)),
    "Max": _SEVERAL,
    "MaxPool": Signature(
        (8, 10, 11, 12, 22), (*_WINDOW, "ceil_mode", "dilations", "storage_order")
    ),
    "Min": _SEVERAL,
    "Mish": Signature((18, 22)),
    "Mul": _BINARY,
    "Neg": _ENTRYWISE,
    "PRelu": Signature((7, 9, 16), inputs=(2, 2)),
    "Pow": Signature((7, 12, 13, 15), inputs=(2, 2)),
    "Pad": Signature((11, 13, 18, 19, *_TYPES), ("mode",), (2, 4)),
    "ReduceL2": Signature((11, 13, 18), _REDUCED, (1, 2)),
    "ReduceMax": Signature((1, 11, 12, 13, 18, 20), _REDUCED, (1, 2)),
    "ReduceMean": Signature((1, 11, 13, 18), _REDUCED, (1, 2)),
    "ReduceMin": Signature((1, 11, 12, 13, 18, 20), _REDUCED, (1, 2)),
    "Relu": Signature((6, 13, 14)),
    "Reshape": Signature((5, 13, 14, 19, *_TYPES), ("allowzero",), (2, 2)),
    "Resize": Signature(
        (11, 13, 18, 19),
        (
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ),
        (1, 4),
    ),
    "Selu": Signature((6, 22), ("alpha", "gamma")),
    "Shape": Signature((1, 13, 15, 19, *_TYPES), ("start", "end")),
    "Sigmoid": _ENTRYWISE,
    "Slice": Signature((10, 11, 13), inputs=(3, 5)),
    # Before version 13 it is taken over all axes from the one stated on.
    "Softmax": Signature((13,), ("axis",)),
    "Softplus": Signature((1, 22)),
    "Softsign": Signature((1, 22)),
    "Split": Signature((13, 18), ("axis", "num_outputs"), (1, 2), MANY),
    "Squeeze": Signature((1, 11, 13, *_TYPES), ("axes",), (1, 2)),
    "Sub": _BINARY,
    "Tanh": _ENTRYWISE,
    # The second output, indices, may be named; nothing reads it.
    "TopK": Signature((10, 11, 24), ("axis", "largest", "sorted"), (2, 2), 2),
    "Transpose": Signature((1, 13, *_TYPES), ("perm",)),
    "Unsqueeze": Signature((1, 11, 13, *_TYPES), ("axes",), (1, 2)),
    "Where": Signature((9, 16), inputs=(3, 3)),
}


def opset_of(model: onnx.ModelProto) -> int:
    """The one version of ONNX' operators that the file is written in.

    Raises:
        InvalidModelError: none, several, or one that is not read here.
    """
    stated = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if len(stated) != 1:
        raise InvalidModelError(f"the file states {len(stated)} versions of ONNX' operators, not 1")
    newest = onnx.defs.onnx_opset_version()
    if not OLDEST_OPSET <= stated[0] <= newest:
        raise InvalidModelError(
            f"the file uses opset {stated[0]}; read are {OLDEST_OPSET} to {newest}: convert it "
            "with onnx.version_converter"
        )
    return int(stated[0])


def check_node(node: onnx.NodeProto, opset: int) -> None:
    """Hold a node against the table.

    Raises:
        UnsupportedOperatorError: an operator, a version, an attribute, a number of inputs or
            outputs that the table does not have.
        InvalidModelError: an attribute that is not what ONNX says, or not finite.
    """
    signature = SIGNATURES.get(node.op_type)
    if signature is None:
        raise UnsupportedOperatorError(label(node), node.op_type)
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=opset)
    except onnx.defs.SchemaError as error:
        raise UnsupportedOperatorError(label(node), f"{node.op_type} of opset {opset}") from error
    if schema.deprecated or schema.since_version not in signature.versions:
        raise UnsupportedOperatorError(
            label(node), f"{node.op_type} as opset {schema.since_version} defines it"
        )
    _check_names(node, signature)
    _check_attributes(node, signature, schema)


def _check_names(node: onnx.NodeProto, signature: Signature) -> None:
    least, most = signature.inputs
    names = list(node.input)
    if not least <= len(names) <= most or not all(names[:least]):
        raise UnsupportedOperatorError(
            label(node), f"{node.op_type} with inputs {names[:5]}; {least} must be there"
        )
    outputs = list(node.output)
    if not 1 <= len(outputs) <= signature.outputs:
        raise UnsupportedOperatorError(label(node), f"{node.op_type} with {len(outputs)} outputs")
    if not all(outputs):
        # ONNX Runtime ends the process over some of these.
        raise UnsupportedOperatorError(label(node), f"{node.op_type} with an output without a name")


def _check_attributes(
    node: onnx.NodeProto, signature: Signature, schema: onnx.defs.OpSchema
) -> None:
    seen: set[str] = set()
    for attribute in node.attribute:
        name = attribute.name
        if name in seen:
            raise InvalidModelError(f"node {label(node)!r} states {name} twice")
        seen.add(name)
        if name not in signature.attributes or name not in schema.attributes:
            raise UnsupportedOperatorError(label(node), f"{node.op_type} with {name}")
        wanted: Any = schema.attributes[name].type
        if attribute.ref_attr_name or int(wanted) != attribute.type:
            raise InvalidModelError(f"node {label(node)!r}: {name} is of another type")
        if not all(map(math.isfinite, _floats(attribute))):
            raise InvalidModelError(f"node {label(node)!r}: {name} is not finite")
        if len(set(attribute.ints)) < len(attribute.ints) and name == "axes":
            raise InvalidModelError(f"node {label(node)!r}: axes {list(attribute.ints)} repeat")
    missing = {name for name, known in schema.attributes.items() if known.required} - seen
    if missing:
        raise InvalidModelError(f"node {label(node)!r} lacks {', '.join(sorted(missing))}")


def _floats(attribute: AttributeProto) -> Iterable[float]:
    if attribute.type == AttributeProto.FLOAT:
        return (float(helper.get_attribute_value(attribute)),)
    return attribute.floats
