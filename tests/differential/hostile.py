"""Files that break one rule of the format each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.differential.file import Case, File, floats, integers

Change = Callable[[onnx.ModelProto], object]
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_value = helper.make_tensor_value_info


def right(opset: int = 17) -> onnx.ModelProto:
    """Conv, Relu, Flatten, Gemm: a file that is right."""
    file = File((2, 4, 4), opset)
    value = file.add("Conv", "x", file.weights(3, 2, 3, 3), file.weights(3), kernel_shape=[3, 3])
    value = file.add("Flatten", file.add("Relu", value))
    return onnx.load_model_from_string(
        file.finish(
            file.add("Gemm", value, file.weights(5, 12), file.weights(5), transB=1), flat=False
        )
    )


def _input(m: onnx.ModelProto, *shape: Any, kind: int = FLOAT) -> None:
    m.graph.input[0].CopyFrom(_value("x", kind, shape))


def _attribute(m: onnx.ModelProto, place: int, name: str, value: Any) -> None:
    node = m.graph.node[place]
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def _sub_graph() -> onnx.GraphProto:
    value = _value("s", FLOAT, [1])
    return helper.make_graph(
        [helper.make_node("Constant", [], ["s"], value_floats=[1.0])], "s", [], [value]
    )


def _raw(tensor: onnx.TensorProto, raw: bytes, dims: list[int], kind: int = FLOAT) -> None:
    tensor.ClearField("float_data")
    tensor.raw_data, tensor.data_type = raw, kind
    del tensor.dims[:]
    tensor.dims.extend(dims)


def _function(m: onnx.ModelProto, name: str = "Relu", domain: str = "") -> None:
    opset = [helper.make_opsetid("", 17)]
    m.functions.append(
        helper.make_function(
            domain, name, ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opset
        )
    )


def _stray(
    m: onnx.ModelProto, kind: str, inputs: list[str], outputs: list[str], **given: Any
) -> None:
    """A node that nothing reads, or that is no node at all, in front."""
    kept = list(m.graph.node)
    del m.graph.node[:]
    m.graph.node.extend([helper.make_node(kind, inputs, outputs, **given), *kept])


def _set(place: Callable[[onnx.ModelProto], Any], name: str, value: Any) -> Change:
    return lambda m: setattr(place(m), name, value)


def _node(place: int) -> Callable[[onnx.ModelProto], Any]:
    return lambda m: m.graph.node[place]


CHANGES: dict[str, Change] = {
    "empty output of a node": lambda m: m.graph.node[1].output.__setitem__(0, ""),
    "empty output of the graph": lambda m: (
        m.graph.node[-1].output.__setitem__(0, ""),
        m.graph.output[0].ClearField("name"),
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
    "two nodes of one name": lambda m: [setattr(n, "name", "same") for n in m.graph.node],
    "two initialisers of one name": lambda m: m.graph.initializer.append(m.graph.initializer[0]),
    "an initialiser without a name": lambda m: m.graph.initializer[0].ClearField("name"),
    "an initialiser named as the image": _set(lambda m: m.graph.initializer[0], "name", "x"),
    "an initialiser that is an input": lambda m: m.graph.input.append(
        _value(m.graph.initializer[0].name, FLOAT, [3, 2, 3, 3])
    ),
    "the same before ir 4": lambda m: (
        setattr(m, "ir_version", 3),
        m.graph.input.extend([_value(t.name, FLOAT, list(t.dims)) for t in m.graph.initializer]),
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
    "an image of halves": lambda m: _input(m, "N", 2, 4, 4, kind=HALF),
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
    "a function": _function,
    "a function of another domain": lambda m: _function(m, "Mine", "mine"),
    "a sparse weight": lambda m: m.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(floats(1), "c9"),
            numpy_helper.from_array(integers(0), "c9i"),
            [3],
        )
    ),
    "a weight elsewhere": lambda m: (
        setattr(m.graph.initializer[0], "data_location", TensorProto.EXTERNAL),
        m.graph.initializer[0].ClearField("raw_data"),
        m.graph.initializer[0].external_data.add(key="location", value="/etc/passwd"),
    ),
    "a weight too short": lambda m: _raw(m.graph.initializer[0], b"\0" * 8, [3, 2, 3, 3]),
    "a weight of vast size": lambda m: _raw(m.graph.initializer[0], b"", [2**40, 2**40]),
    "a weight of negative size": lambda m: _raw(
        m.graph.initializer[0], b"\0" * 216, [-3, -2, 3, 3]
    ),
    "a weight of no entries": lambda m: _raw(m.graph.initializer[0], b"", [0, 2, 3, 3]),
    "a weight without data": lambda m: m.graph.initializer[0].ClearField("raw_data"),
    "a weight with two kinds of data": lambda m: m.graph.initializer[0].float_data.extend(
        [0.0] * 54
    ),
    "a weight of no type": lambda m: _raw(m.graph.initializer[0], b"", [], kind=0),
    "a weight of an unknown type": lambda m: _raw(m.graph.initializer[0], b"", [], kind=99),
    "a weight of halves": lambda m: _raw(
        m.graph.initializer[0], b"\0" * 108, [3, 2, 3, 3], kind=HALF
    ),
    "a weight of doubles": lambda m: _raw(
        m.graph.initializer[0], b"\0" * 432, [3, 2, 3, 3], kind=TensorProto.DOUBLE
    ),
    "a weight of bytes": lambda m: _raw(
        m.graph.initializer[0], b"\0" * 54, [3, 2, 3, 3], kind=TensorProto.INT8
    ),
    "a weight that is no number": lambda m: _raw(
        m.graph.initializer[0], np.full(54, np.nan, np.float32).tobytes(), [3, 2, 3, 3]
    ),
    "a weight in segments": lambda m: m.graph.initializer[0].segment.__setattr__("end", 3),
    "an attribute stated twice": lambda m: m.graph.node[0].attribute.append(
        m.graph.node[0].attribute[0]
    ),
    "an attribute without a name": lambda m: m.graph.node[0].attribute[0].ClearField("name"),
    "an attribute of another type": lambda m: _attribute(m, 0, "kernel_shape", 3.0),
    "an attribute that is a text": lambda m: _attribute(m, 0, "group", "one"),
    "an attribute that is a graph": lambda m: _attribute(m, 0, "group", _sub_graph()),
    "an attribute that refers to another": lambda m: setattr(
        m.graph.node[0].attribute[0], "ref_attr_name", "k"
    ),
    "an attribute of an undefined type": lambda m: setattr(m.graph.node[0].attribute[0], "type", 0),
    "an unknown attribute": lambda m: _attribute(m, 1, "frobnicate", 1),
    "a branch": lambda m: _stray(
        m, "If", ["x"], ["z"], then_branch=_sub_graph(), else_branch=_sub_graph()
    ),
    "a stray node": lambda m: _stray(m, "Sin", ["x"], ["z"]),
    "a random stray node": lambda m: _stray(m, "RandomNormal", [], ["z"], shape=[1]),
    "noise added": lambda m: (
        _stray(m, "RandomNormalLike", ["x"], ["z"]),
        m.graph.node[1].input.__setitem__(0, "z"),
    ),
    "text in a name": _set(_node(1), "name", "\u0000\n\u202e" * 100),
    "quantised": lambda m: (
        _stray(m, "QuantizeLinear", ["x", "s"], ["z"]),
        m.graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "s")),
    ),
    "a graph without a name": lambda m: m.graph.ClearField("name"),
    "no graph": lambda m: m.ClearField("graph"),
    "training": lambda m: m.training_info.add(),
    "an unused constant of strings": lambda m: m.graph.initializer.append(
        helper.make_tensor("words", TensorProto.STRING, [1], [b"a"])
    ),
    "an unused constant of halves": lambda m: m.graph.initializer.append(
        numpy_helper.from_array(np.zeros(2, np.float16), "halves")
    ),
    "a value of another shape": lambda m: m.graph.value_info.append(
        _value(m.graph.node[1].output[0], FLOAT, ["N", 9, 9, 9])
    ),
    "devices": lambda m: m.graph.node[0].metadata_props.add(key="a", value="b"),
}


def hostile() -> Iterator[Case]:
    """The right file with each of the changes, and whole networks that depend on nothing."""
    yield Case("hostile", "nothing changed", bytes(right().SerializeToString()))
    for name, change in CHANGES.items():
        model = right()
        change(model)
        yield Case("hostile", name, bytes(model.SerializeToString()))
    for name, value in {"zero": 0.0, "denormal": 1e-45, "largest": 3.4e38}.items():
        for kind in ("Mul", "Gemm", "Conv", "BatchNormalization"):
            yield Case("hostile", f"{kind} by {name} weights", _constant(kind, value))


def _constant(kind: str, value: float) -> bytes:
    file = File((2, 4, 4))
    match kind:
        case "Gemm":
            made = file.add(
                "Gemm",
                file.add("Flatten", "x"),
                np.full((5, 32), value, np.float32),
                file.weights(5),
                transB=1,
            )
        case "Conv":
            made = file.add("Conv", "x", np.full((2, 2, 3, 3), value, np.float32), file.weights(2))
        case "BatchNormalization":
            made = file.add(
                kind, "x", floats(value, value), file.weights(2), file.weights(2), floats(1, 1)
            )
        case _:
            made = file.add("Mul", "x", floats(value))
    return file.finish(made)


HOSTILE = {"hostile": hostile}
