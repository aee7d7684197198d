"""Builds the engine's graph while the nodes of an ONNX graph are read one after another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.activation import Entrywise
from reaas_bounds.graph.folding import pruned
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Reshape
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Node, Sum
from reaas_bounds.graph.onnx_file import check_activation, image_shape, label, read_tensor
from reaas_bounds.graph.sparse import Matrix, Sparse
from reaas_bounds.graph.window import Shape
from reaas_bounds.interruption import checkpoint

ZERO = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class Length:
    """The 2-norm of node ``source``, a vector, or ``least`` where it is smaller."""

    source: int
    least: float


@dataclass(frozen=True, eq=False)
class Lowered:
    """A graph, and the ``least_length`` by which its output is divided if it is shorter.

    None: the output is the feature as it is.
    """

    graph: Graph
    least_length: float | None


class GraphBuilder:
    """State of one pass: constants by name, nodes so far, index of every activation.

    Attributes:
        opset: version of ONNX' operators that the file is written in.
        constants: float32, int64 or bool arrays; shapes of activations are arrays of objects,
            whose batch axis is no number.
        lengths, units: lengths of vectors, and vectors divided by their own length, by name; the
            latter may only be the output.
        pairs: activations of pairwise maxima made so far, by what they read.
    """

    def __init__(self, proto: onnx.GraphProto, opset: int) -> None:
        self.opset = opset
        # What no node reads may have any type: exporters leave such weights behind.
        read = {name for node in proto.node for name in node.input} | {proto.output[0].name}
        self.constants: dict[str, NDArray[Any]] = {
            t.name: read_tensor(t, t.name) for t in proto.initializer if t.name in read
        }
        self.nodes: list[Node] = [Input(image_shape(proto))]
        weights = {t.name for t in proto.initializer}
        self.index = {v.name: 0 for v in proto.input if v.name not in weights}
        self.lengths: dict[str, Length] = {}
        self.units: dict[str, Length] = {}
        self.pairs: dict[tuple[int, bytes], int] = {}

    def finish(self, output: onnx.ValueInfoProto) -> Lowered:
        """The graph up to ``output``, which must be a feature [N, d]."""
        unit = self.units.get(output.name)
        if unit is None and output.name not in self.index:
            raise InvalidModelError(f"output {output.name!r} does not depend on the input")
        last = self.index[output.name] if unit is None else unit.source
        shape = self.nodes[last].shape
        if len(shape) != 1 or output.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise InvalidModelError(
                f"output {output.name!r} must be a FLOAT feature [N, d], its shape is "
                f"{['N', *shape]}"
            )
        return Lowered(pruned(self.nodes[: last + 1]), None if unit is None else unit.least)

    def append(self, lowered: Node, name: str) -> int:
        """Index of the new node ``lowered``; ``name`` is for messages."""
        checkpoint()
        check_activation(lowered.shape, name)
        self.nodes.append(lowered)
        return len(self.nodes) - 1

    def push(self, node: onnx.NodeProto, lowered: Node) -> None:
        """Append a lowered node as the value of ``node``'s first output."""
        self.index[node.output[0]] = self.append(lowered, node.output[0])

    def affine(
        self,
        node: onnx.NodeProto,
        linear: LinearMap,
        bias: Tensor = ZERO,
        magnitude: Tensor | None = None,
        source: int | None = None,
    ) -> None:
        """Append ``linear h + bias`` of the activation ``source`` (default: the first input)."""
        magnitude = bias.abs() if magnitude is None else magnitude
        source = self.source(node) if source is None else source
        self.push(node, Affine(source, linear, bias, magnitude))

    def linear(self, source: int, linear: LinearMap, name: str) -> int:
        """Index of ``linear h`` of the activation ``source``; what changes nothing is no node."""
        if isinstance(linear, Reshape) and linear.input_shape == linear.output_shape:
            return source
        return self.append(Affine(source, linear, ZERO, ZERO), name)

    def activation(self, node: onnx.NodeProto, function: Entrywise) -> None:
        """Append ``function`` of the first input, on a vector or on image planes."""
        self.activation_of(self.source(node), node, function)

    def activation_of(self, source: int, node: onnx.NodeProto, function: Entrywise) -> None:
        """Append ``function`` of the activation ``source`` as the value of ``node``."""
        shape = self.nodes[source].shape
        flat = shape if len(shape) in (1, 3) else (math.prod(shape),)
        seen = self.linear(source, Reshape(shape, flat), node.output[0])
        found = self.append(Activation(seen, flat, function), node.output[0])
        self.index[node.output[0]] = self.linear(found, Reshape(flat, shape), node.output[0])

    def origin(self, index: int) -> tuple[int, Matrix]:
        """The node that node ``index`` only rearranges, and the matrix that does it."""
        matrix = scipy.sparse.eye_array(math.prod(self.nodes[index].shape), format="csr")
        while isinstance(node := self.nodes[index], Affine) and node.bias is ZERO:
            if isinstance(node.linear, Sparse) and node.linear.terms == 0:
                matrix = matrix @ node.linear.matrix
            elif not isinstance(node.linear, Reshape):
                break
            index = node.source
        return index, matrix

    def total(self, left: int, right: int, name: str, *, disjoint: bool = False) -> int:
        """Index of the sum of two activations of one shape."""
        return self.append(Sum(left, right, self.nodes[left].shape, disjoint), name)

    def source(self, node: onnx.NodeProto, position: int = 0) -> int:
        """Index of the activation that is input ``position``."""
        name = node.input[position]
        if name in self.lengths or name in self.units:
            raise UnsupportedOperatorError(label(node), f"{node.op_type} of a normalised vector")
        if name not in self.index:
            known = name in self.constants
            what = "a constant" if known else f"{name!r}, which no node before it makes"
            raise UnsupportedOperatorError(label(node), f"{node.op_type} of {what}")
        return self.index[name]

    def shape(self, node: onnx.NodeProto, rank: int | None = None) -> Shape:
        """Shape of the first input; ``rank`` 3 = image planes, 1 = a vector."""
        shape = self.nodes[self.source(node)].shape
        if rank is not None and len(shape) != rank:
            raise InvalidModelError(f"node {label(node)!r} reads an activation {list(shape)}")
        return shape

    def constant(self, node: onnx.NodeProto, position: int) -> NDArray[Any]:
        """Constant input ``position``."""
        name = node.input[position]
        if name not in self.constants:
            raise UnsupportedOperatorError(
                label(node), f"{node.op_type} with a computed input {name!r}"
            )
        return self.constants[name]

    def integers(self, node: onnx.NodeProto, position: int) -> list[int]:
        """Constant input ``position`` as integers that do not depend on the batch."""
        values = self.entries(node, position)
        if not all(isinstance(value, int) for value in values):
            raise UnsupportedOperatorError(label(node), f"{node.op_type} by {values[:5]}")
        return values

    def entries(self, node: onnx.NodeProto, position: int) -> list[Any]:
        """Constant input ``position``: a vector of integers, the size of the batch among them."""
        array = self.constant(node, position)
        if array.ndim != 1 or array.dtype not in (np.int64, np.object_):
            what = f"input {position} of type {array.dtype} and shape {list(array.shape)}"
            raise UnsupportedOperatorError(label(node), f"{node.op_type} with {what}")
        found: list[Any] = array.tolist()
        return found

    def weight(self, node: onnx.NodeProto, position: int) -> Tensor:
        """Constant float input ``position`` in float64."""
        array = self.constant(node, position)
        if array.dtype != np.float32:
            raise InvalidModelError(f"node {label(node)!r}: weights must be FLOAT")
        if not np.isfinite(array).all():
            raise InvalidModelError(f"node {label(node)!r} has weights that are not finite")
        return torch.from_numpy(array.astype(np.float64))

    def has(self, node: onnx.NodeProto, position: int) -> bool:
        """Whether the optional input ``position`` is given."""
        return len(node.input) > position and bool(node.input[position])
