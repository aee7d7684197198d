"""Builds the engine's graph while the nodes of an ONNX graph are read one after another."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.nodes import Affine, Graph, Input, Node
from reaas_bounds.graph.onnx_file import check_activation, image_shape, label, read_tensor
from reaas_bounds.graph.window import Shape

_ZERO = torch.zeros((), dtype=torch.float64)


class GraphBuilder:
    """State of one pass: constants by name, nodes so far, index of every activation."""

    def __init__(self, proto: onnx.GraphProto) -> None:
        self.constants = {t.name: read_tensor(t, t.name) for t in proto.initializer}
        self.nodes: list[Node] = [Input(image_shape(proto))]
        self.index = {v.name: 0 for v in proto.input if v.name not in self.constants}

    def finish(self, output: onnx.ValueInfoProto) -> Graph:
        """The graph up to ``output``, which must be a feature [N, d]."""
        if output.name not in self.index:
            raise InvalidModelError(f"output {output.name!r} does not depend on the input")
        last = self.index[output.name]
        shape = self.nodes[last].shape
        if len(shape) != 1 or output.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise InvalidModelError(
                f"output {output.name!r} must be a FLOAT feature [N, d], its shape is "
                f"{['N', *shape]}"
            )
        return Graph(tuple(self.nodes[: last + 1]))

    def push(self, node: onnx.NodeProto, lowered: Node) -> None:
        """Append a lowered node as the value of ``node``'s first output."""
        check_activation(lowered.shape, node.output[0])
        self.nodes.append(lowered)
        self.index[node.output[0]] = len(self.nodes) - 1

    def affine(
        self,
        node: onnx.NodeProto,
        linear: LinearMap,
        bias: Tensor = _ZERO,
        magnitude: Tensor | None = None,
        source: int | None = None,
    ) -> None:
        """Append ``linear h + bias`` of the activation ``source`` (default: the first input)."""
        magnitude = bias.abs() if magnitude is None else magnitude
        source = self.source(node) if source is None else source
        self.push(node, Affine(source, linear, bias, magnitude))

    def source(self, node: onnx.NodeProto, position: int = 0) -> int:
        """Index of the activation that is input ``position``."""
        name = node.input[position]
        if name not in self.index:
            raise UnsupportedOperatorError(label(node), f"{node.op_type} of a constant")
        return self.index[name]

    def shape(self, node: onnx.NodeProto, rank: int | None = None) -> Shape:
        """Shape of the first input; ``rank`` 3 = image planes, 1 = a vector."""
        shape = self.nodes[self.source(node)].shape
        if rank is not None and len(shape) != rank:
            raise InvalidModelError(f"node {label(node)!r} reads an activation {list(shape)}")
        return shape

    def constant(self, node: onnx.NodeProto, position: int) -> NDArray[np.generic]:
        """Constant input ``position``."""
        name = node.input[position]
        if name not in self.constants:
            raise UnsupportedOperatorError(
                label(node), f"{node.op_type} with a computed input {name!r}"
            )
        return self.constants[name]

    def weight(self, node: onnx.NodeProto, position: int) -> Tensor:
        """Constant float input ``position`` in float64."""
        array = self.constant(node, position)
        if array.dtype != np.float32:
            raise InvalidModelError(f"node {label(node)!r}: weights must be FLOAT")
        return torch.from_numpy(array.astype(np.float64))

    def has(self, node: onnx.NodeProto, position: int) -> bool:
        """Whether the optional input ``position`` is given."""
        return len(node.input) > position and bool(node.input[position])
