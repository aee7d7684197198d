"""Small changes to ONNX graphs that keep the rest of them as it is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def names(graph: onnx.GraphProto) -> set[str]:
    """Of all values."""
    found = {value.name for value in (*graph.input, *graph.output)}
    found |= {tensor.name for tensor in graph.initializer}
    return found | {name for node in graph.node for name in (*node.input, *node.output)}


def free_name(graph: onnx.GraphProto, wanted: str) -> str:
    """`wanted`, or with a number where it is taken."""
    taken = names(graph)
    candidates = (wanted, *(f"{wanted}_{index}" for index in range(1, len(taken) + 2)))
    return next(name for name in candidates if name not in taken)


def rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Another name for a value; whatever has that name gets another."""
    if old == new:
        return
    if new in names(graph):
        rename(graph, new, free_name(graph, f"{new}_inner"))
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new
    for weight in graph.initializer:
        if weight.name == old:
            weight.name = new
    for node in graph.node:
        for part in (node.input, node.output):
            for index, name in enumerate(part):
                if name == old:
                    part[index] = new


def redirect(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Whatever reads `old` reads `new`."""
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new
    for value in graph.output:
        if value.name == old:
            value.name = new


def add_constant(graph: onnx.GraphProto, name: str, value: NDArray[np.generic]) -> str:
    """The name of a new constant."""
    chosen = free_name(graph, name)
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), chosen))
    return chosen


def put_first(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Nodes before all others, in order."""
    rest = [*nodes, *graph.node]
    del graph.node[:]
    graph.node.extend(rest)


def consumers(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that read a value."""
    return [node for node in graph.node if name in node.input]


def constants(graph: onnx.GraphProto) -> dict[str, NDArray[np.generic]]:
    """Integer constants by name: initialisers and Constant nodes."""
    found = {t.name: t for t in graph.initializer if t.data_type == TensorProto.INT64}
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "value" and attribute.t.data_type == TensorProto.INT64:
                found[node.output[0]] = attribute.t
    return {name: numpy_helper.to_array(tensor) for name, tensor in found.items()}


def prune(graph: onnx.GraphProto) -> None:
    """Removes nodes and weights that the outputs don't need, and shapes stated in between."""
    needed = {value.name for value in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed & set(node.output):
            kept.append(node)
            needed |= set(node.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    stated = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stated]
    for part in (graph.node, graph.initializer, graph.input, graph.value_info):
        del part[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
    graph.input.extend(inputs)


def float_value(name: str, dims: list[int | str]) -> onnx.ValueInfoProto:
    """A float32 input or output."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
