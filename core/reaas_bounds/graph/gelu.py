"""Finds GELU where a file writes it with Erf or Tanh.

``0.5 x (1 + erf(x / sqrt 2))``, and ``0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper

from reaas_bounds.graph.smooth import GELU_CUBIC, GELU_SCALE
from reaas_bounds.graph.values import Values

# Relative; the constants of the file are float32. Their error is part of the function's own
# (``Smooth.errors``), to which it adds a tenth at most.
_CLOSE = 2e-7

_FORMS = {"Erf": "none", "Tanh": "tanh"}
Found = tuple[str, list[int]]  # name of x, and positions of nodes


def fused_gelu(nodes: Sequence[onnx.NodeProto], values: Values) -> list[onnx.NodeProto]:
    """``nodes``, each group that is a GELU replaced by one ``Gelu`` node."""
    finder = _Finder(values)
    replaced: dict[int, onnx.NodeProto] = {}
    dropped: set[int] = set()
    for position, node in enumerate(nodes):
        found = finder.gelu(position) if node.op_type in _FORMS else None
        if found is not None:
            source, parts = found
            last = max(parts)
            replaced[last] = helper.make_node(
                "Gelu",
                [source],
                nodes[last].output,
                name=node.name,
                approximate=_FORMS[node.op_type],
            )
            dropped |= values.unread(parts)
    return [
        replaced.get(position, node)
        for position, node in enumerate(nodes)
        if position in replaced or position not in dropped
    ]


class _Finder:
    """Looks for GELU around an Erf or a Tanh."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.nodes, self.maker, self.numbers = values.nodes, values.maker, values.numbers

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

    def _scaled(self, position: int) -> Found | None:
        """x where node ``position`` is ``x / sqrt 2``."""
        node = self.nodes[position]
        for name in node.input:
            scale = self.values.scale_of(node.output[0], name)
            if name not in self.numbers and scale and _close(scale, math.sqrt(0.5)):
                return name, [position]
        return None

    def _cubic(self, position: int) -> Found | None:
        """x where node ``position`` is ``sqrt(2 / pi) (x + 0.044715 x^3)``."""
        total = self._multiplied(position, GELU_SCALE)
        if total is None or self.nodes[total].op_type != "Add":
            return None
        for source in self.nodes[total].input:
            term = self.maker.get(self.values.other(total, source))
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
        square = self.maker.get(self.values.other(position, source))
        if square is None or self.nodes[square].op_type != "Mul":
            return None
        return [square, position] if set(self.nodes[square].input) == {source} else None

    def _multiplied(self, position: int, factor: float) -> int | None:
        """The maker of the value that node ``position`` multiplies by ``factor``."""
        node = self.nodes[position]
        if node.op_type == "Mul":
            for name in node.input:
                number = self.numbers.get(self.values.other(position, name))
                if number is not None and _close(number, factor):
                    return self.maker.get(name)
        return None

    def _tail(self, value: str, source: str) -> list[int] | None:
        """The nodes that make ``0.5 source (1 + value)`` of ``value``."""
        plus = self.values.only_reader(value)
        if plus is None or self._other_number(plus, value, "Add") != 1.0:
            return None
        parts, value = [plus], self.nodes[plus].output[0]
        factor, met = 1.0, False
        while not (met and _close(factor, 0.5)):
            product = self.values.only_reader(value)
            if product is None or self.nodes[product].op_type != "Mul":
                return None
            number = self._other_number(product, value, "Mul")
            if number is None:
                other = self.values.other(product, value)
                scale = self.values.scale_of(other, source)
                if met or scale is None:
                    return None
                met, number = True, scale
                parts += [] if other == source else [self.maker[other]]
            factor *= number
            parts.append(product)
            value = self.nodes[product].output[0]
        return parts

    def _other_number(self, position: int, name: str, kind: str) -> float | None:
        """The number that node ``position`` of this kind combines ``name`` with."""
        if self.nodes[position].op_type != kind:
            return None
        return self.numbers.get(self.values.other(position, name))


def _close(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=_CLOSE)
