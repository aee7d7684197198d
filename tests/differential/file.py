"""Small ONNX files, written node by node, right or wrong: nothing here checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OLDEST, NEWEST = 7, int(onnx.defs.onnx_opset_version())
OPSETS = tuple(range(OLDEST, NEWEST + 1))
# Means "leave the attribute, or the input, out".
ABSENT = object()

Array = NDArray[Any]
Input = str | Array | np.generic | None


@dataclass(frozen=True)
class Case:
    """One file of the grid.

    Attributes:
        family: which part of the grid it belongs to, mostly an operator's name.
        name: what is particular about it, for whoever reads a failure.
        data: the bytes of the file.
    """

    family: str
    name: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


class File:
    """Appends nodes to a graph ``x`` [N, C, H, W] -> ``out``; constants are initialisers or nodes.

    ``x`` is the name of the image; every value that ``add`` returns is the name of an output.
    Four in five files are ``fitting``: what an operator of the file's opset does not know is left
    out, so that the grid meets more than the refusals of a checker.
    """

    def __init__(
        self, shape: Sequence[int], opset: int = 17, seed: int = 0, *, by_node: bool = False
    ) -> None:
        self.shape, self.opset, self.by_node = tuple(shape), opset, by_node
        self.random = np.random.default_rng(seed)
        self.fitting = seed % 5 != 0
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[TensorProto] = []

    def add(self, kind: str, *inputs: Input, outputs: int = 1, **attributes: Any) -> str:
        """Append a node; the name of its first output. Attributes that are ABSENT are left out."""
        return self.several(kind, *inputs, outputs=outputs, **attributes)[0]

    def several(self, kind: str, *inputs: Input, outputs: int = 2, **attributes: Any) -> list[str]:
        """The same with the names of all outputs."""
        read = [self._named(value) for value in inputs]
        schema = self._schema(kind) if self.fitting else None
        if schema is not None:
            outputs = min(outputs, schema.max_output)
            attributes = {k: v for k, v in attributes.items() if k in schema.attributes}
        place = f"{kind.lower()}{len(self.nodes)}"
        names = [place, *(f"{place}_{k}" for k in range(1, outputs))]
        node = helper.make_node(kind, read, names, name=f"n_{place}")
        given = ((name, value) for name, value in attributes.items() if value is not ABSENT)
        node.attribute.extend(_attribute(name, value) for name, value in given)
        self.nodes.append(node)
        return names

    def by_input(self, kind: str, name: str) -> bool:
        """Whether ``name`` is an input of the operator, not an attribute, in this opset."""
        schema = self._schema(kind)
        as_input = schema is not None and name not in schema.attributes
        return as_input if self.fitting else self.opset % 2 == 0

    def _schema(self, kind: str) -> onnx.defs.OpSchema | None:
        try:
            return onnx.defs.get_schema(kind, max_inclusive_version=self.opset)
        except onnx.defs.SchemaError:
            return None

    def weights(self, *shape: int, size: float = 1.0) -> Array:
        """Gaussian float32 weights of spread ``size``."""
        return (size * self.random.normal(size=shape)).astype(np.float32)

    def finish(self, last: str, *, flat: bool = True) -> bytes:
        """The bytes; ``last``, flattened to [N, d], is the feature."""
        if flat:
            last = self.add("Flatten", last, axis=1)
        self.nodes.append(helper.make_node("Identity", [last], ["out"], name="last"))
        return bytes(self.model().SerializeToString())

    def model(self) -> onnx.ModelProto:
        """The model so far, its output ``out`` [N, d]."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "g",
            [value("x", TensorProto.FLOAT, ["N", *self.shape])],
            [value("out", TensorProto.FLOAT, ["N", "d"])],
            self.tensors,
        )
        opset = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opset, ir_version=8)

    def _named(self, value: Input) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if self.by_node:
            return self.add("Constant", value=numpy_helper.from_array(np.asarray(value)))
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, list) and not value:
        return helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, value)


def integers(*values: int) -> Array:
    """A vector of INT64."""
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> Array:
    """A vector of FLOAT."""
    return np.array(values, dtype=np.float32)
