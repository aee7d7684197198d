"""ONNX file -> the engine's own graph of affine maps, ReLUs and sums."""

from reaas_bounds.graph.linear import LinearMap, compose
from reaas_bounds.graph.network import (
    LinearOp,
    Network,
    ReplicateChannels,
    SeparableResize,
    load_network,
)
from reaas_bounds.graph.nodes import Affine, Graph, Input, Node, Relu, Sum

__all__ = [
    "Affine",
    "Graph",
    "Input",
    "LinearMap",
    "LinearOp",
    "Network",
    "Node",
    "Relu",
    "ReplicateChannels",
    "SeparableResize",
    "Sum",
    "compose",
    "load_network",
]
