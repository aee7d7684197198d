"""Finds GELU where a file writes it with Erf or Tanh.

``0.5 x (1 + erf(x / sqrt 2))``, and ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import onnx
from onnx import helper, numpy_helper

from reaas_bounds.graph.smooth import GELU_CUBIC, GELU_SCALE

# Relative; the constants of the file are float32. Their error is part of the function's own
# (``Smooth.errors``), to which it adds a tenth at most.
_CLOSE = 2e-7

_FORMS = {"Erf": "none", "Tanh": "tanh"}
Found = tuple[str, list[int]]  # name of x, and positions of nodes


def fused_gelu(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes of ``graph``, each group that is a GELU replaced by one ``Gelu`` node."""
    finder = _Finder(graph)
    replaced: dict[int, onnx.NodeProto] = {}
    dropped: set[int] = set()
    for position, node in enumerate(graph.node):
        found = finder.gelu(position) if node.op_type in _FORMS else None
        if found is not None:
            source, parts = found
            last = max(parts)
            replaced[last] = helper.make_node(
                "Gelu",
                [source],
                graph.node[last].output,
                name=node.name,
                approximate=_FORMS[node.op_type],
            )
            dropped |= finder.unread(parts)
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

    def gelu(self, position: int) -> Found | None:
        """The GELU around the Erf or Tanh at ``position``; None if it is something else."""
        node = self.nodes[position]
        before = self.maker.get(node.input[0])
        if before is None:
            return None
        head = self._scaled(before) if node.op_type == "Erf" else self._cubic(before)
        if head is None:
            return None
        source, parts = head
        tail = self._tail(node.output[0], source)
        return None if tail is None else (source, [*parts, position, *tail])

    def unread(self, parts: Sequence[int]) -> set[int]:
        """Those of ``parts`` whose values no other node needs."""
        gone: set[int] = set()
        for position in sorted(parts, reverse=True):
            names = self.nodes[position].output
            read = {k for name in names for k in self.readers.get(name, [])}
            if position == max(parts) or (read <= gone and not self.outputs & set(names)):
                gone.add(position)
        return gone

    def _scaled(self, position: int) -> Found | None:
        """x where node ``position`` is ``x / sqrt 2``."""
        node = self.nodes[position]
        for name in node.input:
            scale = self._scale_of(node.output[0], name)
            if name not in self.numbers and scale and _close(scale, math.sqrt(0.5)):
                return name, [position]
        return None

    def _cubic(self, position: int) -> Found | None:
        """x where node ``position`` is ``sqrt(2 / pi) (x + 0.044715 x^3)``."""
        total = self._multiplied(position, GELU_SCALE)
        if total is None or self.nodes[total].op_type != "Add":
            return None
        for source in self.nodes[total].input:
            term = self.maker.get(self._other(total, source))
            cube = None if term is None else self._multiplied(term, GELU_CUBIC)
            powers = None if cube is None else self._cube(cube, source)
            if term is not None and powers is not None:
                return source, [*powers, term, total, position]
        return None

    def _cube(self, position: int, source: str) -> list[int] | None:
        """The nodes behind ``source^3``, if that is what node ``position`` computes."""
        node = self.nodes[position]
        if node.op_type == "Pow":
            is_cube = node.input[0] == source and self.numbers.get(node.input[1]) == 3.0
            return [position] if is_cube else None
        if node.op_type != "Mul" or source not in node.input:
            return None
        square = self.maker.get(self._other(position, source))
        if square is None or self.nodes[square].op_type != "Mul":
            return None
        return [square, position] if set(self.nodes[square].input) == {source} else None

    def _multiplied(self, position: int, factor: float) -> int | None:
        """The maker of the value that node ``position`` multiplies by ``factor``."""
        node = self.nodes[position]
        if node.op_type == "Mul":
            for name in node.input:
                number = self.numbers.get(self._other(position, name))
                if number is not None and _close(number, factor):
                    return self.maker.get(name)
        return None

    def _tail(self, value: str, source: str) -> list[int] | None:
        """The nodes that make ``0.5 source (1 + value)`` of ``value``."""
        plus = self._only_reader(value)
        if plus is None or self._other_number(plus, value, "Add") != 1.0:
            return None
        parts, value = [plus], self.nodes[plus].output[0]
        factor, met = 1.0, False
        while not (met and _close(factor, 0.5)):
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
                parts += [] if other == source else [self.maker[other]]
            factor *= number
            parts.append(product)
            value = self.nodes[product].output[0]
        return parts

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


def _close(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=_CLOSE)


def _single_numbers(graph: onnx.GraphProto) -> Iterable[tuple[str, float]]:
    tensors: list[tuple[str, onnx.TensorProto]] = [(t.name, t) for t in graph.initializer]
    for node in graph.node:
        values: Sequence[onnx.AttributeProto] = node.attribute
        if node.op_type == "Constant":
            tensors += [(node.output[0], a.t) for a in values if a.name == "value"]
    for name, tensor in tensors:
        if math.prod(tensor.dims) == 1 and tensor.data_type == onnx.TensorProto.FLOAT:
            yield name, float(numpy_helper.to_array(tensor).ravel()[0])
