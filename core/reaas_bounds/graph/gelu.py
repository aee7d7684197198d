"""Finds GELU where a file writes it with Erf: ``0.5 x (1 + erf(x / sqrt 2))``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import onnx
from onnx import helper, numpy_helper

# The constants of the file are float32.
_CLOSE = 1e-6


def fused_gelu(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of ``graph``, each group that is a GELU replaced by one ``Gelu`` node."""
    finder = _Finder(graph)
    replaced: dict[int, onnx.NodeProto] = {}
    dropped: set[int] = set()
    for position, node in enumerate(graph.node):
        found = finder.gelu(node) if node.op_type == "Erf" else None
        if found is not None:
            source, parts = found
            last = parts[-1]
            replaced[last] = helper.make_node(
                "Gelu", [source], graph.node[last].output, name=graph.node[position].name
            )
            dropped |= set(parts)
    return [
        replaced.get(position, node)
        for position, node in enumerate(graph.node)
        if position in replaced or position not in dropped
    ]


class _Finder:
    """Who makes and who reads each value of a graph, and which values are single numbers."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes = list(graph.node)
        self.maker = {name: k for k, node in enumerate(self.nodes) for name in node.output}
        self.readers: dict[str, list[int]] = {}
        for k, node in enumerate(self.nodes):
            for name in node.input:
                self.readers.setdefault(name, []).append(k)
        self.outputs = {value.name for value in graph.output}
        self.numbers = dict(_single_numbers(graph))

    def gelu(self, erf: onnx.NodeProto) -> tuple[str, list[int]] | None:
        """Name of x and positions of all nodes, the last one last; None if it is something else."""
        before = self.maker.get(erf.input[0])
        source = None if before is None else self._scaled(before, math.sqrt(0.5))
        plus = self._only_reader(erf.output[0])
        if source is None or plus is None or self._other_number(plus, erf.output[0], "Add") != 1.0:
            return None
        parts, value = [self.maker[erf.output[0]], plus], self.nodes[plus].output[0]
        if len(self.readers[erf.input[0]]) == 1:
            parts.append(self.maker[erf.input[0]])
        factor, met = 1.0, False
        while not (met and abs(factor - 0.5) < _CLOSE):
            product = self._only_reader(value)
            if product is None or self.nodes[product].op_type != "Mul":
                return None
            number = self._other_number(product, value, "Mul")
            if number is None:
                other = self._other(product, value)
                scale = self._scale_of(other, source)
                if met or scale is None:
                    return None
                met, number = True, scale
                if other != source and self._only_reader(other) is not None:
                    parts.append(self.maker[other])
            factor *= number
            parts.append(product)
            value = self.nodes[product].output[0]
        return source, parts

    def _only_reader(self, name: str) -> int | None:
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def _other(self, position: int, name: str) -> str:
        first, second = self.nodes[position].input
        return second if first == name else first

    def _other_number(self, position: int, name: str, kind: str) -> float | None:
        """The number that node ``position`` of this kind combines ``name`` with."""
        if self.nodes[position].op_type != kind:
            return None
        return self.numbers.get(self._other(position, name))

    def _scaled(self, position: int, factor: float) -> str | None:
        """The x of which node ``position`` is ``factor x``."""
        node = self.nodes[position]
        for name in node.input:
            scale = self._scale_of(node.output[0], name)
            if name not in self.numbers and scale and abs(scale - factor) < _CLOSE:
                return name
        return None

    def _scale_of(self, name: str, source: str) -> float | None:
        """The number c with ``name = c source``; None if there is none."""
        if name == source:
            return 1.0
        node = self.nodes[self.maker[name]] if name in self.maker else None
        if node is None or node.op_type not in ("Mul", "Div") or source not in node.input:
            return None
        number = self.numbers.get(self._other(self.maker[name], source))
        if not number or (node.op_type == "Div" and node.input[0] != source):
            return None
        return number if node.op_type == "Mul" else 1.0 / number


def _single_numbers(graph: onnx.GraphProto) -> Iterable[tuple[str, float]]:
    tensors: list[tuple[str, onnx.TensorProto]] = [(t.name, t) for t in graph.initializer]
    for node in graph.node:
        values: Sequence[onnx.AttributeProto] = node.attribute
        if node.op_type == "Constant":
            tensors += [(node.output[0], a.t) for a in values if a.name == "value"]
    for name, tensor in tensors:
        if math.prod(tensor.dims) == 1 and tensor.data_type == onnx.TensorProto.FLOAT:
            yield name, float(numpy_helper.to_array(tensor).ravel()[0])
