"""Who makes and who reads each value of an ONNX graph: what patterns of operators are found by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import onnx
from onnx import numpy_helper


class Values:
    """Makers and readers of the values of ``nodes``, and which values are single numbers."""

    def __init__(self, graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
        self.nodes = list(nodes)
        self.maker = {name: k for k, node in enumerate(self.nodes) for name in node.output}
        self.readers: dict[str, list[int]] = {}
        for k, node in enumerate(self.nodes):
            for name in node.input:
                self.readers.setdefault(name, []).append(k)
        self.outputs = {value.name for value in graph.output}
        self.numbers = dict(_single_numbers(graph, self.nodes))

    def unread(self, parts: Sequence[int]) -> set[int]:
        """Those of ``parts`` whose values no other node needs; the last one among them."""
        gone: set[int] = set()
        for position in sorted(parts, reverse=True):
            names = self.nodes[position].output
            read = {k for name in names for k in self.readers.get(name, [])}
            if position == max(parts) or (read <= gone and not self.outputs & set(names)):
                gone.add(position)
        return gone

    def only_reader(self, name: str) -> int | None:
        """The one node that reads ``name``, which is no output; None if there are others."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def other(self, position: int, name: str) -> str:
        """The other input of the binary node ``position``."""
        first, second = self.nodes[position].input
        return second if first == name else first

    def scale_of(self, name: str, source: str) -> float | None:
        """The number c with ``name = c source``; None if there is none."""
        if name == source:
            return 1.0
        node = self.nodes[self.maker[name]] if name in self.maker else None
        if node is None or node.op_type not in ("Mul", "Div") or source not in node.input:
            return None
        number = self.numbers.get(self.other(self.maker[name], source))
        if not number or (node.op_type == "Div" and node.input[0] != source):
            return None
        return number if node.op_type == "Mul" else 1.0 / number


def _single_numbers(
    graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]
) -> Iterable[tuple[str, float]]:
    tensors: list[tuple[str, onnx.TensorProto]] = [(t.name, t) for t in graph.initializer]
    for node in nodes:
        attributes: Sequence[onnx.AttributeProto] = node.attribute
        if node.op_type == "Constant":
            tensors += [(node.output[0], a.t) for a in attributes if a.name == "value"]
    for name, tensor in tensors:
        if math.prod(tensor.dims) == 1 and tensor.data_type == onnx.TensorProto.FLOAT:
            yield name, float(numpy_helper.to_array(tensor).ravel()[0])
