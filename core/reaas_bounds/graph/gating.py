"""Finds SiLU, HardSwish and Mish where a file writes them as ``x`` times a gate of ``x``.

``x sigmoid(x)``, ``x sigmoid(c x)``, ``x hardsigmoid(x)``, ``x tanh(softplus(x))``, and
``x min(max(x + 3, 0), 6) / 6``; Softsign, ``x / (1 + |x|)``; and Softplus above a threshold too.

A product that is none of these is one of two paths (``graph/coupling``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx
from onnx import helper

from reaas_bounds.graph.values import Values

# What such a function ends in.
_ENDS = ("Mul", "Div", "Where")
# Beyond this Softplus and its argument differ by less than float32 tells.
_STRAIGHT = 17.0
# Relative; the constants of the file are float32.
_CLOSE = 2e-7


def fused_gates(nodes: Sequence[onnx.NodeProto], values: Values) -> list[onnx.NodeProto]:
    """``nodes``, each product that is one of the functions replaced by one node of it.

    The gate's own nodes stay where something else reads them.
    """
    finder = _Finder(values)
    replaced: dict[int, onnx.NodeProto] = {}
    dropped: set[int] = set()
    for position, node in enumerate(nodes):
        found = finder.function(position) if node.op_type in _ENDS else None
        if found is not None:
            made, parts = found
            replaced[position] = made
            dropped |= values.unread([*parts, position])
    return [
        replaced.get(position, node)
        for position, node in enumerate(nodes)
        if position in replaced or position not in dropped
    ]


Found = tuple[onnx.NodeProto, list[int]]  # the function, and positions of the gate's nodes


class _Finder:
    """Looks for gates behind products."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def function(self, position: int) -> Found | None:
        """The function that the product or quotient at ``position`` is."""
        match self.values.nodes[position].op_type:
            case "Div":
                return self._softsign(position)
            case "Where":
                return self._softplus(position)
        return self._product(position) or self._sixth(position)

    def _softplus(self, position: int) -> Found | None:
        """``x`` where it is above a threshold, else ``softplus(x)``."""
        values, node = self.values, self.values.nodes[position]
        chosen, source, below = node.input
        first, second = values.maker.get(chosen), values.maker.get(below)
        if first is None or second is None:
            return None
        compared, inner = values.nodes[first], values.nodes[second]
        wanted = compared.op_type == "Greater" and inner.op_type == "Softplus"
        if not wanted or inner.input[0] != source or compared.input[0] != source:
            return None
        if values.numbers.get(compared.input[1], 0.0) < _STRAIGHT:
            return None
        made = helper.make_node("Softplus", [source], node.output, name=node.name)
        return made, [first, second]

    def _softsign(self, position: int) -> Found | None:
        """``x / (1 + |x|)``."""
        values, node = self.values, self.values.nodes[position]
        source, below = node.input
        at = values.maker.get(below)
        if at is None or values.nodes[at].op_type != "Add":
            return None
        for name, number in (values.nodes[at].input, reversed(values.nodes[at].input)):
            size = values.maker.get(name)
            if values.numbers.get(number) != 1.0 or size is None:
                continue
            inner = values.nodes[size]
            if inner.op_type == "Abs" and inner.input[0] == source:
                made = helper.make_node("Softsign", [source], node.output, name=node.name)
                return made, [at, size]
        return None

    def _product(self, position: int) -> Found | None:
        node = self.values.nodes[position]
        for source, gate in (node.input, reversed(node.input)):
            at = self.values.maker.get(gate)
            found = None if at is None else self._gate(at, source)
            if found is not None:
                kind, given, parts = found
                made = helper.make_node(kind, [source], node.output, name=node.name)
                made.attribute.extend(helper.make_attribute(*item) for item in given.items())
                return made, parts
        return None

    def _gate(self, at: int, source: str) -> tuple[str, dict[str, float], list[int]] | None:
        """(operator, its attributes, nodes) of the gate that node ``at`` makes of ``source``."""
        node, values = self.values.nodes[at], self.values
        match node.op_type:
            case "Sigmoid":
                scale = values.scale_of(node.input[0], source)
                if scale is None:
                    return None
                before = [] if node.input[0] == source else [values.maker[node.input[0]]]
                return "Swish", {"alpha": scale}, [at, *before]
            case "HardSigmoid" if node.input[0] == source:
                given = {a.name: float(a.f) for a in node.attribute}
                alpha, beta = given.get("alpha", 0.2), given.get("beta", 0.5)
                usual = _close(alpha, 1 / 6) and beta == 0.5
                return ("HardSwish", {}, [at]) if usual else None
            case "Tanh":
                before_it = values.maker.get(node.input[0])
                inner = None if before_it is None else values.nodes[before_it]
                if inner is None or before_it is None or inner.op_type != "Softplus":
                    return None
                return ("Mish", {}, [at, before_it]) if inner.input[0] == source else None
            case "Div" | "Mul":
                clipped = self._scaled_clip(at, source)
                return None if clipped is None else ("HardSwish", {}, [at, *clipped])
        return None

    def _sixth(self, position: int) -> Found | None:
        """``(x min(max(x + 3, 0), 6)) / 6`` written as a product with 1/6."""
        values, node = self.values, self.values.nodes[position]
        for name, number in (node.input, reversed(node.input)):
            sixth = values.numbers.get(number)
            at = values.maker.get(name)
            if sixth is None or at is None or not _close(sixth, 1 / 6):
                continue
            inner = values.nodes[at]
            if inner.op_type != "Mul":
                continue
            for source, clip in (inner.input, reversed(inner.input)):
                parts = self._clip(clip, source)
                if parts is not None:
                    made = helper.make_node("HardSwish", [source], node.output, name=node.name)
                    return made, [at, *parts]
        return None

    def _scaled_clip(self, at: int, source: str) -> list[int] | None:
        """The nodes behind ``min(max(source + 3, 0), 6) / 6``, made by node ``at``."""
        values, node = self.values, self.values.nodes[at]
        name = next((n for n in node.input if n not in values.numbers), "")
        scale = values.scale_of(node.output[0], name) if name else None
        return self._clip(name, source) if scale and _close(scale, 1 / 6) else None

    def _clip(self, name: str, source: str) -> list[int] | None:
        """The nodes behind ``min(max(source + 3, 0), 6)``."""
        values, at = self.values, self.values.maker.get(name)
        if at is None or values.nodes[at].op_type != "Clip" or len(values.nodes[at].input) != 3:
            return None
        shifted, least, most = values.nodes[at].input
        before = values.maker.get(shifted)
        if (values.numbers.get(least), values.numbers.get(most)) != (0.0, 6.0) or before is None:
            return None
        inner = values.nodes[before]
        if inner.op_type != "Add" or source not in inner.input:
            return None
        return [at, before] if values.numbers.get(values.other(before, source)) == 3.0 else None


def _close(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=_CLOSE)
