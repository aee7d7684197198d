"""Breaks one rule of the format: names, interface, versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
from onnx import TensorProto, helper

Change = Callable[[onnx.ModelProto], object]
FLOAT = TensorProto.FLOAT
_value = helper.make_tensor_value_info


def _input(m: onnx.ModelProto, *shape: Any, kind: int = FLOAT) -> None:
    m.graph.input[0].CopyFrom(_value("x", kind, shape))


def _same_names(m: onnx.ModelProto) -> None:
    for node in m.graph.node:
        node.name = "same"


def together(*changes: Change) -> Change:
    """One change after the other."""

    def change(m: onnx.ModelProto) -> None:
        for one in changes:
            one(m)

    return change


def _set(place: Callable[[onnx.ModelProto], Any], name: str, value: Any) -> Change:
    return lambda m: setattr(place(m), name, value)


def _node(place: int) -> Callable[[onnx.ModelProto], Any]:
    return lambda m: m.graph.node[place]


STRUCTURE: dict[str, Change] = {
    "empty output of a node": lambda m: m.graph.node[1].output.__setitem__(0, ""),
    "empty output of the graph": together(
        lambda m: m.graph.node[-1].output.__setitem__(0, ""),
        lambda m: m.graph.output[0].ClearField("name"),
    ),
    "no outputs of a node": lambda m: m.graph.node[1].ClearField("output"),
    "no inputs of a node": lambda m: m.graph.node[1].ClearField("input"),
    "an input left empty": lambda m: m.graph.node[1].input.__setitem__(0, ""),
    "weights left empty": lambda m: m.graph.node[0].input.__setitem__(1, ""),
    "an unknown input": lambda m: m.graph.node[1].input.__setitem__(0, "nobody"),
    "too many inputs": lambda m: m.graph.node[1].input.append("x"),
    "too many inputs, empty": lambda m: m.graph.node[1].input.extend(["", ""]),
    "too many outputs": lambda m: m.graph.node[1].output.append("more"),
    "too many outputs, empty": lambda m: m.graph.node[1].output.append(""),
    "an output stated twice": lambda m: m.graph.node[1].output.__setitem__(
        0, m.graph.node[0].output[0]
    ),
    "an output named as the image": lambda m: m.graph.node[0].output.__setitem__(0, "x"),
    "an output named as a weight": lambda m: m.graph.node[0].output.__setitem__(
        0, m.graph.initializer[0].name
    ),
    "a loop": lambda m: m.graph.node[0].input.__setitem__(0, m.graph.node[1].output[0]),
    "nodes in the wrong order": lambda m: m.graph.node.reverse(),
    "two nodes of one name": _same_names,
    "two initialisers of one name": lambda m: m.graph.initializer.append(m.graph.initializer[0]),
    "an initialiser without a name": lambda m: m.graph.initializer[0].ClearField("name"),
    "an initialiser named as the image": _set(lambda m: m.graph.initializer[0], "name", "x"),
    "an initialiser that is an input": lambda m: m.graph.input.append(
        _value(m.graph.initializer[0].name, FLOAT, [3, 2, 3, 3])
    ),
    "the same before ir 4": together(
        lambda m: setattr(m, "ir_version", 3),
        lambda m: m.graph.input.extend(
            [_value(t.name, FLOAT, list(t.dims)) for t in m.graph.initializer]
        ),
    ),
    "ir 3 without it": _set(lambda m: m, "ir_version", 3),
    "ir 0": _set(lambda m: m, "ir_version", 0),
    "ir of the future": _set(lambda m: m, "ir_version", 10**6),
    "a second input": lambda m: m.graph.input.append(_value("y", FLOAT, ["N", 2])),
    "the input twice": lambda m: m.graph.input.append(m.graph.input[0]),
    "no input": lambda m: m.graph.ClearField("input"),
    "a second output": lambda m: m.graph.output.append(
        _value(m.graph.node[1].output[0], FLOAT, None)
    ),
    "no output": lambda m: m.graph.ClearField("output"),
    "the image as output": lambda m: m.graph.output[0].CopyFrom(m.graph.input[0]),
    "a weight as output": _set(lambda m: m.graph.output[0], "name", "c1"),
    "an output of another type": lambda m: m.graph.output[0].CopyFrom(
        _value("out", TensorProto.DOUBLE, ["N", 5])
    ),
    "an output of another size": lambda m: m.graph.output[0].CopyFrom(
        _value("out", FLOAT, ["N", 7])
    ),
    "an output of a fixed batch": lambda m: m.graph.output[0].CopyFrom(
        _value("out", FLOAT, [1, 5])
    ),
    "an output of no type": lambda m: m.graph.output[0].ClearField("type"),
    "a fixed batch of 1": lambda m: _input(m, 1, 2, 4, 4),
    "a fixed batch of 2": lambda m: _input(m, 2, 2, 4, 4),
    "a free size": lambda m: _input(m, "N", 2, "h", "w"),
    "one name for batch and height": lambda m: _input(m, "N", 2, "N", 4),
    "a batch of 0": lambda m: _input(m, 0, 2, 4, 4),
    "a negative batch": lambda m: _input(m, -1, 2, 4, 4),
    "a batch without a name": lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].Clear(),
    "an image without channels": lambda m: _input(m, "N", 0, 4, 4),
    "a vast image": lambda m: _input(m, "N", 2, 2**40, 2**40),
    "three axes": lambda m: _input(m, "N", 8, 4),
    "five axes": lambda m: _input(m, "N", 2, 4, 4, 1),
    "no shape": lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"),
    "no type": lambda m: m.graph.input[0].ClearField("type"),
    "an image of doubles": lambda m: _input(m, "N", 2, 4, 4, kind=TensorProto.DOUBLE),
    "an image of halves": lambda m: _input(m, "N", 2, 4, 4, kind=TensorProto.FLOAT16),
    "an image of bytes": lambda m: _input(m, "N", 2, 4, 4, kind=TensorProto.UINT8),
    "another domain": _set(_node(1), "domain", "com.microsoft"),
    "the domain of trees": _set(_node(1), "domain", "ai.onnx.ml"),
    "the domain spelled out": _set(_node(1), "domain", "ai.onnx"),
    "an unknown operator": _set(_node(1), "op_type", "Frobnicate"),
    "no operator": _set(_node(1), "op_type", ""),
    "an overload": _set(_node(1), "overload", "fast"),
    "no opset": lambda m: m.ClearField("opset_import"),
    "two opsets": lambda m: m.opset_import.append(helper.make_opsetid("", 11)),
    "two opsets, spelled out": lambda m: m.opset_import.append(helper.make_opsetid("ai.onnx", 7)),
    "another domain's opset": lambda m: m.opset_import.append(
        helper.make_opsetid("com.microsoft", 1)
    ),
    "opset 1": lambda m: setattr(m.opset_import[0], "version", 1),
    "opset 6": lambda m: setattr(m.opset_import[0], "version", 6),
    "opset 0": lambda m: setattr(m.opset_import[0], "version", 0),
    "a negative opset": lambda m: setattr(m.opset_import[0], "version", -17),
    "opset 99": lambda m: setattr(m.opset_import[0], "version", 99),
}
