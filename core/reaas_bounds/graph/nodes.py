"""The engine's own form of an encoder: a graph of affine maps, activations and sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.graph.activation import Entrywise
from reaas_bounds.graph.coupling import Coupling
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.window import Shape


@dataclass(frozen=True, eq=False)
class Input:
    """Node 0: the images [n, C, H, W] in [0,1] units."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Affine:
    """``W h + b``.

    ``bias`` is broadcastable to the output shape; ``bias_magnitude`` bounds the absolute sum of
    the terms that were added to make it (batch normalisation: ``|b| + |mean * scale|``).
    """

    source: int
    linear: LinearMap
    bias: Tensor
    bias_magnitude: Tensor

    @property
    def shape(self) -> Shape:
        """Shape of one output."""
        return self.linear.output_shape


@dataclass(frozen=True, eq=False)
class Activation:
    """``function(h)`` entrywise."""

    source: int
    shape: Shape
    function: Entrywise


@dataclass(frozen=True, eq=False)
class Sum:
    """Sum of two activations of one shape (a residual connection).

    ``disjoint``: no entry is non-zero in both, as in a concatenation.
    """

    left: int
    right: int
    shape: Shape
    disjoint: bool = False


@dataclass(frozen=True, eq=False)
class Joint:
    """``function(h_1, h_2, ...)``, neither linear nor entrywise."""

    inputs: tuple[int, ...]
    shape: Shape
    function: Coupling


Node = Input | Affine | Activation | Sum | Joint


def only_by_constants(node: Joint) -> AssertionError:
    """For walks that know no ``Joint``: networks with one are bounded by their constants alone."""
    return AssertionError(f"{node.function.name} of activations is bounded by constants only")


def sources(node: Node) -> tuple[int, ...]:
    """Indices of the nodes that ``node`` reads."""
    match node:
        case Input():
            return ()
        case Affine() | Activation():
            return (node.source,)
        case Sum():
            return (node.left, node.right)
        case Joint():
            return node.inputs


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order; node 0 is the input, the last one the feature [n, d]."""

    nodes: tuple[Node, ...]

    @property
    def consumers(self) -> list[list[int]]:
        """For each node the nodes that read it, with repetition."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for source in sources(node):
                readers[source].append(index)
        return readers

    def activations(self, x: Tensor) -> list[Tensor]:
        """Values of every node for ``x`` [n, C, H, W] (float64); entry k is [n, *shape_k]."""
        values: list[Tensor] = []
        for node in self.nodes:
            match node:
                case Input():
                    values.append(x)
                case Affine():
                    values.append(node.linear.apply(values[node.source]) + node.bias)
                case Activation():
                    values.append(node.function.value(values[node.source]))
                case Sum():
                    values.append(values[node.left] + values[node.right])
                case Joint():
                    values.append(node.function.value(*(values[k] for k in node.inputs)))
        return values

    def forward(self, x: Tensor) -> Tensor:
        """The feature [n, d] of ``x`` [n, C, H, W]."""
        return self.activations(x)[-1]

    def cast(self, dtype: torch.dtype) -> Graph:
        """The same graph with weights, biases and functions of another type."""
        changed = self._changed(lambda tensor: tensor.to(dtype))
        return Graph(
            tuple(
                replace(node, function=node.function.cast(dtype))
                if isinstance(node, Activation)
                else node
                for node in changed.nodes
            )
        )

    def to(self, device: torch.device) -> Graph:
        """The same graph on another device; its maps have the norms of this one's."""
        return Graph(tuple(_moved(node, device) for node in self.nodes))

    def magnitudes(self) -> Graph:
        """The graph of the weights that count for rounding, with ``bias_magnitude`` for biases."""
        return Graph(tuple(_magnitude(node) for node in self.nodes))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Graph:
        return Graph(tuple(_with_weights(node, change) for node in self.nodes))


def _moved(node: Node, device: torch.device) -> Node:
    match node:
        case Affine():
            bias, magnitude = node.bias.to(device), node.bias_magnitude.to(device)
            return Affine(node.source, node.linear.to(device), bias, magnitude)
        case Activation():
            return replace(node, function=node.function.to(device))
        case _:
            return node


def _magnitude(node: Node) -> Node:
    if not isinstance(node, Affine):
        return node
    magnitude = node.bias_magnitude.abs()
    return Affine(node.source, node.linear.weighed.absolute(), magnitude, magnitude)


def _with_weights(node: Node, change: Callable[[Tensor], Tensor]) -> Node:
    if not isinstance(node, Affine):
        return node
    linear = node.linear.with_weights(change)
    return Affine(node.source, linear, change(node.bias), change(node.bias_magnitude))
