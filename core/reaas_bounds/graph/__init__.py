"""ONNX file -> the engine's own graph of affine maps, activations and sums."""

from reaas_bounds.graph.activation import Entrywise, TwoSlope
from reaas_bounds.graph.linear import LinearMap, compose
from reaas_bounds.graph.network import (
    LinearOp,
    Network,
    ReplicateChannels,
    SeparableResize,
    load_network,
)
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Node, Sum

__all__ = [
    "Activation",
    "Affine",
    "Entrywise",
    "Graph",
    "Input",
    "LinearMap",
    "LinearOp",
    "Network",
    "Node",
    "ReplicateChannels",
    "SeparableResize",
    "Sum",
    "TwoSlope",
    "compose",
    "load_network",
]
