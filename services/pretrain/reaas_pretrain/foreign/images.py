"""The input of a foreign graph: what it is, and how it becomes `input [N, C, H, W]` in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from reaas_pretrain.foreign.editing import (
    add_constant,
    consumers,
    float_value,
    free_name,
    put_first,
    redirect,
)
from reaas_pretrain.foreign.wishes import Wishes, column
from reaas_pretrain.versions import PublishError

_CHANNELS = (1, 3, 4)
_LEVELS = 255  # Pixels of 8 bits go from 0 to this.
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True)
class ForeignInput:
    """The images that a file reads: `batch` None is free; `channels_last` is [N, H, W, C]."""

    name: str
    batch: int | None
    shape: tuple[int, int, int]  # (C, H, W)
    channels_last: bool
    integers: bool  # uint8 pixels

    def arranged(self, images: NDArray[np.float32]) -> NDArray[np.generic]:
        """Images [n, C, H, W] as the file takes them (integers: of pixels 0 to 255)."""
        ordered = images.transpose(_TO_LAST) if self.channels_last else images
        if self.integers:
            return np.ascontiguousarray(np.rint(ordered).astype(np.uint8))
        return np.ascontiguousarray(ordered)


def find_input(graph: onnx.GraphProto, wishes: Wishes) -> ForeignInput:
    """The one input of images; `PublishError` says what is wrong with it and what to do."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name) for value in inputs) or "none"
        raise PublishError(
            f"an encoder reads images and nothing else, the file's inputs are {names}: export it"
            " with the others as constants"
        )
    kind, name = inputs[0].type.tensor_type, inputs[0].name
    if kind.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8):
        stated = TensorProto.DataType.Name(kind.elem_type) if kind.elem_type else "unknown"
        raise PublishError(
            f"input {name!r} is of type {stated}: export the model in float32 (torch:"
            " model.float(), with a float32 example)"
        )
    dims = [_length(dim) for dim in kind.shape.dim]
    if len(dims) != 4:
        raise PublishError(
            f"input {name!r} has {len(dims)} axes {_shown(kind)}, images are [N, C, H, W] or"
            " [N, H, W, C]: export with a batch axis"
        )
    first, last = dims[1] in _CHANNELS, dims[3] in _CHANNELS
    if not (first or last):
        raise PublishError(
            f"input {name!r} is {_shown(kind)}: no axis has 1, 3 or 4 channels; export with images"
            " [N, C, H, W] of fixed channels"
        )
    channels, height, width = dims[1:] if first else (dims[3], dims[1], dims[2])
    if wishes.size is not None:
        height, width = (
            _agreed(name, found, wished)
            for found, wished in zip((height, width), wishes.size, strict=True)
        )
    if height is None or width is None or channels is None:
        raise PublishError(
            f"input {name!r} is {_shown(kind)}, its height and width are free: say which images it"
            " is to be certified for, with --size HEIGHTxWIDTH"
        )
    integers = kind.elem_type == TensorProto.UINT8
    return ForeignInput(name, dims[0], (channels, height, width), not first, integers)


def replace_input(graph: onnx.GraphProto, found: ForeignInput, wishes: Wishes) -> list[str]:
    """Puts a new input of [0, 1] images [N, C, H, W] in front; what was changed, in words."""
    told: list[str] = []
    if wishes.scale != 1 or wishes.mean is not None or wishes.std is not None:
        told.append("pixels: scaled and normalised in front of the file's graph, as asked")
    _check_channels(found, wishes)
    stated = [value for value in graph.input if value.name != found.name]
    del graph.input[:]
    new = free_name(graph, "image")
    graph.input.extend([float_value(new, ["N", *found.shape]), *stated])
    nodes: list[onnx.NodeProto] = []
    scale = _LEVELS if found.integers else wishes.scale
    if found.integers:
        _drop_casts(graph, found.name)
        told.append("pixels of 8 bits: served in [0, 1], multiplied by 255")
    value = new
    if scale != 1:
        value = _node(graph, nodes, "Mul", value, np.full((), scale, np.float32))
    if wishes.mean is not None:
        value = _node(graph, nodes, "Sub", value, column(wishes.mean))
    if wishes.std is not None:
        value = _node(graph, nodes, "Div", value, column(wishes.std))
    if found.channels_last:
        value = _turned(graph, nodes, value, found.name)
        told.append("channels last: turned to [N, C, H, W]")
    redirect(graph, found.name, value)
    put_first(graph, nodes)
    return told


def _node(
    graph: onnx.GraphProto,
    nodes: list[onnx.NodeProto],
    operator: str,
    value: str,
    constant: NDArray[np.float32],
) -> str:
    weight = add_constant(graph, f"{operator.lower()}_pixels", constant)
    name = free_name(graph, f"pixels_{operator.lower()}")
    nodes.append(helper.make_node(operator, [value, weight], [name], name=name))
    return name


def _turned(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], value: str, old: str) -> str:
    """Channels last, without turning to and fro where the graph's own first step turns back."""
    readers = consumers(graph, old)
    if all(_turns_back(node) for node in readers):
        for node in readers:
            redirect(graph, node.output[0], value)
            graph.node.remove(node)
        return value
    name = free_name(graph, "channels_last")
    nodes.append(helper.make_node("Transpose", [value], [name], name=name, perm=_TO_LAST))
    return name


def _turns_back(node: onnx.NodeProto) -> bool:
    perm = [list(a.ints) for a in node.attribute if a.name == "perm"]
    return node.op_type == "Transpose" and perm == [_TO_FIRST]


def _drop_casts(graph: onnx.GraphProto, name: str) -> None:
    """The new input is float32: what made it so goes."""
    for node in consumers(graph, name):
        to = [a.i for a in node.attribute if a.name == "to"]
        if node.op_type == "Transpose":
            _drop_casts(graph, node.output[0])
        elif node.op_type != "Cast" or to != [TensorProto.FLOAT]:
            raise PublishError(
                f"input {name!r} is of 8 bits and read by {node.op_type} before it becomes float32:"
                " export the model with float32 images in [0, 1]"
            )
        else:
            redirect(graph, node.output[0], name)
            graph.node.remove(node)


def _check_channels(found: ForeignInput, wishes: Wishes) -> None:
    for option, values in (("--mean", wishes.mean), ("--std", wishes.std)):
        if values is not None and len(values) not in (1, found.shape[0]):
            raise PublishError(f"{option} has {len(values)} numbers, images {found.shape[0]}")
    if wishes.std is not None and not all(value > 0 for value in wishes.std):
        raise PublishError("--std must be above 0")
    if found.integers and wishes.scale != 1:
        raise PublishError("the file reads pixels of 8 bits: leave --pixels out")


def _length(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    stated = dim.WhichOneof("value") == "dim_value" and dim.dim_value > 0
    return int(dim.dim_value) if stated else None


def _agreed(name: str, found: int | None, wished: int) -> int:
    if found is not None and found != wished:
        raise PublishError(f"input {name!r} is {found} pixels long, --size says {wished}")
    return wished


def _shown(kind: onnx.TypeProto.Tensor) -> str:
    """A shape as it stands in the file."""
    dims = [dim.dim_param or (dim.dim_value if dim.dim_value else "?") for dim in kind.shape.dim]
    return "[" + ", ".join(map(str, dims)) + "]"
