"""Breaks one rule of the format: functions, weights, attributes, single nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.differential.file import floats, integers
from tests.differential.structure import Change, together

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_value = helper.make_tensor_value_info


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


def _words() -> onnx.TensorProto:
    tensor = onnx.TensorProto(name="words", data_type=TensorProto.STRING, dims=[1])
    tensor.string_data.append(b"a")
    return tensor


CONTENTS: dict[str, Change] = {
    "a function": _function,
    "a function of another domain": lambda m: _function(m, "Mine", "mine"),
    "a sparse weight": lambda m: m.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            numpy_helper.from_array(floats(1), "c9"),
            numpy_helper.from_array(integers(0), "c9i"),
            [3],
        )
    ),
    "a weight elsewhere": together(
        lambda m: setattr(m.graph.initializer[0], "data_location", TensorProto.EXTERNAL),
        lambda m: m.graph.initializer[0].ClearField("raw_data"),
        lambda m: m.graph.initializer[0].external_data.add(key="location", value="/etc/passwd"),
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
    "noise added": together(
        lambda m: _stray(m, "RandomNormalLike", ["x"], ["z"]),
        lambda m: m.graph.node[1].input.__setitem__(0, "z"),
    ),
    "text in a name": lambda m: setattr(m.graph.node[1], "name", "\u0000\n\u202e" * 100),
    "quantised": together(
        lambda m: _stray(m, "QuantizeLinear", ["x", "s"], ["z"]),
        lambda m: m.graph.initializer.append(
            numpy_helper.from_array(np.array(0.1, np.float32), "s")
        ),
    ),
    "a graph without a name": lambda m: m.graph.ClearField("name"),
    "no graph": lambda m: m.ClearField("graph"),
    "training": lambda m: m.training_info.add(),
    "an unused constant of strings": lambda m: m.graph.initializer.append(_words()),
    "an unused constant of halves": lambda m: m.graph.initializer.append(
        numpy_helper.from_array(np.zeros(2, np.float16), "halves")
    ),
    "a value of another shape": lambda m: m.graph.value_info.append(
        _value(m.graph.node[1].output[0], FLOAT, ["N", 9, 9, 9])
    ),
    "devices": lambda m: m.graph.node[0].metadata_props.add(key="a", value="b"),
}
