"""How far ONNX Runtime's float32 features can be from the exact ones.

The client compares features that were computed in float32; a certificate has to hold for those.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Affine, Input, Relu, Sum
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.norms.operator import OperatorNorms

UNIT_32 = 2.0**-24  # unit roundoff of float32
# Added to the length of every inner product: bias, fused multiplications by 1/std or by a batch
# normalisation's factor (whose own computation takes four roundings), one division.
SLACK_TERMS = 8
# uint8 / 255 or uint8 * (1/255) in float32.
INPUT_TERMS = 3
# Float64 rounding of this analysis itself.
MARGIN = 1 + 1e-9


def float32_error(network: Network) -> tuple[float, float]:
    """(slope, offset): ``||feature_float32(x) - f(x)||_2 <= slope ||x||_2 + offset``, every x.

    Theorem: an inner product of k terms evaluated in any order, with or without fused
    multiply-add, is within ``gamma_k |w|.|h|`` of the exact one (Higham, Accuracy and Stability
    of Numerical Algorithms, 3.1), ``gamma_k = k u / (1 - k u)``, u = 2^-24. So a node
    ``W h + b`` adds at most ``gamma (|| |W| ||_2 ||h|| + || |b| ||)`` to the error, which the rest
    of the network multiplies by at most its Lipschitz constant. Deterministic.

    Assumes IEEE float32 products summed directly: no Winograd or FFT convolution, no TF32, no
    half precision, no overflow. The rounding of uint8/255 and of a float32 resize is included.
    """
    graph, norms = network.executed, network.norms
    at_zero = graph.activations(torch.zeros(1, *network.input_shape, dtype=torch.float64))
    sizes: list[AffineBound] = []  # of ||h||: grows from its value at the black image
    errors: list[AffineBound] = []
    for node, value in zip(graph.nodes, at_zero, strict=True):
        start = float(torch.linalg.vector_norm(value))
        match node:
            case Input():
                sizes.append(AffineBound(1.0, 0.0))
                errors.append(AffineBound(gamma(INPUT_TERMS, UNIT_32), 0.0))
            case Affine():
                gain = norms.of(node.linear)
                sizes.append(AffineBound(gain * sizes[node.source].slope, start))
                read = sizes[node.source] + errors[node.source]
                errors.append(errors[node.source].scaled(gain) + _added(node, read, norms))
            case Relu():
                sizes.append(AffineBound(sizes[node.source].slope, start))
                errors.append(errors[node.source])
            case Sum():
                sizes.append(AffineBound(sizes[node.left].slope + sizes[node.right].slope, start))
                carried = errors[node.left] + errors[node.right]
                errors.append(carried + (sizes[-1] + carried).scaled(UNIT_32))
    return errors[-1].slope * MARGIN, errors[-1].offset * MARGIN


@dataclass(frozen=True)
class AffineBound:
    """``slope * ||x||_2 + offset``."""

    slope: float
    offset: float

    def __add__(self, other: AffineBound) -> AffineBound:
        return AffineBound(self.slope + other.slope, self.offset + other.offset)

    def scaled(self, factor: float) -> AffineBound:
        """The bound of ``factor`` times as much."""
        return AffineBound(factor * self.slope, factor * self.offset)


def _added(node: Affine, read: AffineBound, norms: OperatorNorms) -> AffineBound:
    """Rounding of one affine node that reads float32 values of size ``read``."""
    if node.linear.terms == 0:  # a reshape or a copy
        return AffineBound(0.0, 0.0)
    relative = gamma(node.linear.terms + SLACK_TERMS, UNIT_32)
    magnitude = node.bias_magnitude.expand(node.shape)
    bias = float(torch.linalg.vector_norm(magnitude))
    products = read.scaled(norms.of_absolute(node.linear))
    return (products + AffineBound(0.0, bias)).scaled(relative)
