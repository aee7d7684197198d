"""Mistakes of reading, planted: the engine is given another file than ONNX Runtime runs.

Each is what the engine did once, or what leaving out one attribute does; the grid must notice.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from reaas_bounds import Network, load_network

from tests.differential.file import Case
from tests.differential.grid import FAMILIES
from tests.differential.verdict import Kind, Outcome, Reader, judge

# Changes the model; whether there was anything to change.
Misreading = Callable[[onnx.ModelProto], bool]


def found(family: str, misreading: Misreading, limit: int = 400) -> tuple[Case, Outcome] | None:
    """The first file that the grid reports as wrong, of ``limit`` of a family that are misread."""
    tried = 0
    for case in FAMILIES[family]():
        model = onnx.load_model_from_string(case.data)
        if not misreading(model):
            continue
        outcome = judge(case.data, reader=_reader(model))
        if outcome.kind is Kind.WRONG:
            return case, outcome
        tried += 1
        if tried == limit:
            break
    return None


def nothing(_: onnx.ModelProto) -> bool:
    """The file is read as it is: the mistake is elsewhere."""
    return True


def _reader(model: onnx.ModelProto) -> Reader:
    def read(_: bytes) -> Network:
        return load_network(model.SerializeToString())

    return read


def without(kind: str, attribute: str) -> Misreading:
    """The attribute of all operators of a kind is not looked at."""

    def misread(model: onnx.ModelProto) -> bool:
        changed = False
        for node in model.graph.node:
            kept = [a for a in node.attribute if a.name != attribute]
            if node.op_type == kind and len(kept) < len(node.attribute):
                del node.attribute[:]
                node.attribute.extend(kept)
                changed = True
        return changed

    return misread


def training_as_inference(model: onnx.ModelProto) -> bool:
    """More outputs than one of a BatchNormalization are not looked at."""
    changed = False
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and len(node.output) > 1:
            del node.output[1:]
            changed = True
    return changed


def negative_axes_as_none(model: onnx.ModelProto) -> bool:
    """Sizes for axes counted from the end change nothing."""
    changed = False
    for node in model.graph.node:
        axes = [axis for a in node.attribute if a.name == "axes" for axis in a.ints]
        if node.op_type == "Resize" and min(axes, default=0) < 0 and len(node.input) == 4:
            source, output, name = node.input[0], node.output[0], node.name
            node.CopyFrom(helper.make_node("Identity", [source], [output], name=name))
            changed = True
    return changed


def dilated_padding(model: onnx.ModelProto) -> bool:
    """A pool that pads itself does so for the dilated kernel, as the standard says."""
    plane = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]]
    changed = False
    for node in model.graph.node:
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        same = given.get("auto_pad", b"").startswith(b"SAME")
        if not node.op_type.endswith("Pool") or not same or "dilations" not in given:
            continue
        strides = given.pop("strides", [1, 1])
        before, after = [], []
        for axis in (0, 1):
            span = given["dilations"][axis] * (given["kernel_shape"][axis] - 1) + 1
            last = (math.ceil(plane[axis] / strides[axis]) - 1) * strides[axis]
            missing = max(0, last + span - plane[axis])
            upper = given["auto_pad"] == b"SAME_UPPER"
            before.append(missing // 2 if upper else missing - missing // 2)
            after.append(missing - before[-1])
        del given["auto_pad"]
        made = helper.make_node(node.op_type, node.input, node.output, name=node.name,
                                strides=strides, pads=before + after, **given)  # fmt: skip
        node.CopyFrom(made)
        changed = True
    return changed


def python_integers(model: onnx.ModelProto) -> bool:
    """Integers are added, multiplied and divided as in Python: no end, quotients rounded down."""
    known = {
        tensor.name: numpy_helper.to_array(tensor).astype(object)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT64
    }
    arithmetic: dict[str, Callable[..., Any]] = {
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": np.floor_divide,
    }
    changed = False
    for node in model.graph.node:
        if node.op_type not in arithmetic or not all(name in known for name in node.input):
            continue
        left, right = (known[name] for name in node.input)
        if node.op_type == "Div" and not right.all():
            return False
        value = np.asarray(arithmetic[node.op_type](left, right), dtype=object)
        known[node.output[0]] = value
        # Beyond the ends of a slice it makes no difference how far.
        kept = np.clip(value, -(2**63), 2**63 - 1).astype(np.int64)
        constant = numpy_helper.from_array(kept)
        node.CopyFrom(helper.make_node("Constant", [], node.output, name=node.name, value=constant))
        changed = True
    return changed
