"""Reads ONNX bytes from an untrusted source: nothing outside the bytes is opened or believed."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.window import Shape

# An encoder of the kind served here has a few MB; the limits leave room for a large ResNet and
# keep a hostile file from claiming the machine's memory.
MAX_MODEL_BYTES = 512 * 2**20
MAX_ACTIVATION = 2**24  # entries of one activation of one image (128 MiB in float64)

_ITEM_BYTES: dict[int, int] = {
    int(onnx.TensorProto.FLOAT): 4,
    int(onnx.TensorProto.INT64): 8,
    int(onnx.TensorProto.BOOL): 1,
}


def parse(data: bytes) -> onnx.ModelProto:
    """A well-formed ONNX file.

    Raises:
        InvalidModelError: not ONNX, larger than 512 MiB, or with external or sparse tensors.
        UnsupportedOperatorError: an operator of a foreign domain or with a subgraph.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise InvalidModelError(f"the file has {len(data)} bytes, the limit is {MAX_MODEL_BYTES}")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise InvalidModelError("the bytes are no ONNX file") from error
    _refuse_foreign(model)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise InvalidModelError(f"the ONNX checker refuses the file: {error}") from error
    _refuse_unnamed(model.graph)
    return model


def _refuse_foreign(model: onnx.ModelProto) -> None:
    graph = model.graph
    if not graph.node or not graph.output:
        raise InvalidModelError("the bytes are no ONNX file, or its graph has no node or no output")
    if graph.sparse_initializer or model.training_info:
        raise InvalidModelError("sparse weights and training graphs are not supported")
    if model.functions:
        raise UnsupportedOperatorError(model.functions[0].name, "a model-local function")
    for tensor in graph.initializer:
        _refuse_external(tensor)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedOperatorError(label(node), f"{node.domain}.{node.op_type}")
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise UnsupportedOperatorError(label(node), f"{node.op_type} with a subgraph")
            if attribute.HasField("t"):
                _refuse_external(attribute.t)


def _refuse_unnamed(graph: onnx.GraphProto) -> None:
    """Values are told apart by name: each has one, and no two the same.

    ONNX Runtime ends the process over an output of the graph without a name.
    """
    made = [v.name for v in graph.input] + [name for node in graph.node for name in node.output]
    weights = [tensor.name for tensor in graph.initializer]
    nodes = [node.name for node in graph.node]
    for names in (made, weights, nodes):
        repeated = {name for name, count in Counter(names).items() if count > 1 and name}
        if repeated:
            raise InvalidModelError(f"the name {min(repeated)!r} is given twice")
    stated = [value.name for value in (*graph.input, *graph.output)] + weights
    if not all(stated):
        raise InvalidModelError("an input, an output or a weight of the graph has no name")
    clash = {name for node in graph.node for name in node.output} & set(weights)
    if clash:
        raise InvalidModelError(f"node output {min(clash)!r} has the name of a weight")


def _refuse_external(tensor: onnx.TensorProto) -> None:
    if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise InvalidModelError(f"tensor {tensor.name!r} lies outside of the file")


def label(node: onnx.NodeProto) -> str:
    """The node's name, or its first output's where it has none."""
    return str(node.name or (node.output[0] if node.output else node.op_type))


def type_name(number: int) -> str:
    """The name of an ONNX element type; a file may state any number."""
    known: bool = number in onnx.TensorProto.DataType.values()
    return str(onnx.TensorProto.DataType.Name(number)) if known else f"number {number}"


def read_tensor(tensor: onnx.TensorProto, name: str) -> NDArray[np.generic]:
    """A constant of the file as an array: float32, int64 or bool, of its stated size, no NaN.

    Infinite limits are what exporters write for a Clip with one side; nothing else reads them.
    """
    item = _ITEM_BYTES.get(tensor.data_type)
    if item is None:
        kind = type_name(tensor.data_type)
        raise InvalidModelError(f"tensor {name!r} has type {kind}; weights must be FLOAT")
    claimed = math.prod(tensor.dims) * item
    if tensor.raw_data and len(tensor.raw_data) != claimed:
        raise InvalidModelError(
            f"tensor {name!r} claims {claimed} bytes and holds {len(tensor.raw_data)}"
        )
    try:
        array: NDArray[np.generic] = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise InvalidModelError(f"tensor {name!r} does not fit its shape: {error}") from error
    if np.isnan(array).any():
        raise InvalidModelError(f"tensor {name!r} holds NaN: values that are not finite")
    return array


def image_shape(graph: onnx.GraphProto) -> Shape:
    """(C, H, W) of the one input [N, C, H, W].

    Raises:
        InvalidModelError: more inputs, another rank or type, or sizes that are not fixed.
    """
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InvalidModelError(
            f"an encoder has one input and one output, this file has {len(inputs)} and "
            f"{len(graph.output)}"
        )
    kind = inputs[0].type.tensor_type
    dims = list(kind.shape.dim)
    if kind.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4 or _fixed(dims[0]):
        raise InvalidModelError(
            f"input {inputs[0].name!r} must be FLOAT [N, C, H, W] with a free N"
        )
    shape = tuple(int(dim.dim_value) for dim in dims[1:])
    check_activation(shape, inputs[0].name)
    return shape


def _fixed(batch: onnx.TensorShapeProto.Dimension) -> bool:
    """Whether a size is stated; ONNX Runtime reads a negative one as free."""
    return batch.WhichOneof("value") == "dim_value" and batch.dim_value >= 0


def check_activation(shape: Shape, name: str) -> None:
    """Refuse an activation with no entries or with more than the limit."""
    if min(shape, default=0) < 1 or math.prod(shape) > MAX_ACTIVATION:
        raise InvalidModelError(
            f"activation {name!r} has shape {list(shape)}; every size must be at least 1 and "
            f"their product at most {MAX_ACTIVATION}"
        )
