"""How far ONNX Runtime's float32 features can be from the exact ones.

The client compares features that were computed in float32; a certificate has to hold for those.

Theorem behind both functions: an inner product of k terms evaluated in any order, with or without
fused multiply-add, is within ``gamma_k |w|.|h|`` of the exact one, ``gamma_k = k u / (1 - k u)``,
u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). So a node ``W h + b`` adds
at most ``gamma_k || |W| |h| + |b| ||_2`` to the error, and the rest of the network multiplies it
by at most its Lipschitz constant. Deterministic. Assumes IEEE float32 products that are summed
directly: no Winograd or FFT convolution, no TF32, no half precision, no overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.lipschitz import averaged_operators, prefix_constants, suffix_constants
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Node, Sum, sources
from reaas_bounds.norms.matrix import gamma

UNIT_32 = 2.0**-24  # unit roundoff of float32
# Added to the length of every inner product: bias, fused multiplications by 1/std or by a batch
# normalisation's factor (whose own computation takes four roundings), one division.
SLACK_TERMS = 8
# uint8 / 255 or uint8 * (1/255) in float32.
INPUT_TERMS = 3
# Float64 rounding of this analysis itself.
MARGIN = 1 + 1e-9
_OFFSET = torch.tensor([0.0, 1.0], dtype=torch.float64)


def float32_error(network: Network) -> tuple[float, float]:
    """(slope, offset): ``||feature_float32(x) - f(x)||_2 <= slope ||x||_2 + offset``, every x.

    The sizes ``||h||`` are bounded by their value at the black image plus a Lipschitz constant
    times ``||x||_2``. Includes the rounding of uint8/255 and of a float32 resize.
    """
    black = torch.zeros(1, *network.input_shape, dtype=torch.float64)
    values = network.executed.activations(black)
    prefix, model = _prefixes(network), _Model.of(network)
    # Everything below is linear in (slope, offset), so both travel as one tensor [2].
    sizes = [
        torch.tensor([p, float(v.norm())], dtype=torch.float64)
        for p, v in zip(prefix, values, strict=True)
    ]

    def products(index: int, node: Affine, error: Tensor) -> Tensor:
        bias = float(node.bias_magnitude.expand(node.shape).norm())
        read = sizes[node.source] + error
        return model.absolute[index] * read + bias * _OFFSET

    image = torch.tensor([1.0, 0.0], dtype=torch.float64)
    total = model.accumulated(image, _OFFSET, products, lambda index, error: sizes[index] + error)
    return float(total[0]) * MARGIN, float(total[1]) * MARGIN


def float32_error_at(network: Network, x: Tensor) -> Tensor:
    """``||feature_float32(x) - f(x)||_2`` is at most this, [n], for images x [n, C, H, W].

    The sums ``|W| |h| + |b|`` are measured at x, in float32: they are close to those of ONNX
    Runtime, whose h and ours are both within the error so far of the exact one; a sum of positive
    terms is itself good to ``gamma_k``. Far below what ``float32_error`` says for all x.
    """
    # One image at a time: float32 kernels differ with the size of the batch, and the answer to a
    # query must not depend on what else is in its batch.
    model = _Model.of(network)
    found = [_error_at(network, model, image[None]) for image in x]
    return torch.cat(found) if found else x.new_zeros(0)


def _error_at(network: Network, model: _Model, x: Tensor) -> Tensor:
    """The bound [1] for one image [1, C, H, W]."""
    graph, magnitudes = network.executed_float32
    values = graph.activations(x.float())

    def products(index: int, node: Affine, error: Tensor) -> Tensor:
        magnitude = magnitudes.nodes[index]
        assert isinstance(magnitude, Affine)
        sums = magnitude.linear.apply(values[node.source].abs()) + magnitude.bias
        relative = 2 * gamma(node.linear.terms + SLACK_TERMS, UNIT_32)
        drift = 2 * model.absolute[index] * error
        return _norms(sums) * (1 + relative) + drift

    def size(index: int, error: Tensor) -> Tensor:
        return _norms(values[index]) + 2 * error

    norm = _norms(x)
    return model.accumulated(norm, torch.ones_like(norm), products, size) * MARGIN


def _norms(values: Tensor) -> Tensor:
    norms: Tensor = values.double().flatten(1).norm(dim=1)
    return norms


@dataclass(frozen=True, eq=False)
class _Model:
    """Per executed node: constants of what follows it, of itself, and of its absolute weights."""

    graph: Graph
    suffix: list[float]
    gain: list[float]
    absolute: list[float]

    @classmethod
    def of(cls, network: Network) -> _Model:
        linear = [n.linear if isinstance(n, Affine) else None for n in network.executed.nodes]
        gain = [_gain(network, node) for node in network.executed.nodes]
        absolute = [1.0 if w is None else network.norms.of_absolute(w) for w in linear]
        return cls(network.executed, _suffixes(network), gain, absolute)

    def accumulated(
        self,
        image: Tensor,
        one: Tensor,
        products: Callable[[int, Affine, Tensor], Tensor],
        size: Callable[[int, Tensor], Tensor],
    ) -> Tensor:
        """Sum over all nodes of the error that each adds, times the constant of what follows.

        ``image``: norm of the image; ``one``: the number 1 in the same form.
        ``products(index, node, error)``: bound of ``|| |W| |h| + |b| ||`` for float32 values h
        within ``error`` of the exact ones.
        ``size(index, error)``: norm of the float32 value of node ``index``.
        """
        errors = [gamma(INPUT_TERMS, UNIT_32) * image]
        total = self.suffix[0] * errors[0]
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            match node:
                case Affine():
                    carried = self.gain[index] * errors[node.source]
                    added = torch.zeros_like(carried)
                    if node.linear.terms > 0:  # else a reshape or a copy: exact
                        relative = gamma(node.linear.terms + SLACK_TERMS, UNIT_32)
                        added = relative * products(index, node, errors[node.source])
                case Activation():
                    carried = self.gain[index] * errors[node.source]
                    added = _of_activation(node, size(index, carried), one)
                case Sum():
                    carried = errors[node.left] + errors[node.right]
                    added = UNIT_32 * size(index, carried)
                case Input():
                    raise AssertionError("the input is node 0")
            errors.append(carried + added)
            total = total + self.suffix[index] * added
        return total


def _of_activation(node: Activation, size: Tensor, one: Tensor) -> Tensor:
    """Rounding of the function itself, for values of norm ``size``."""
    function = node.function
    absolute = function.absolute_error * math.sqrt(math.prod(node.shape))
    return function.relative_error * size + absolute * one


def _gain(network: Network, node: Node) -> float:
    """Lipschitz constant of one node in each of its inputs."""
    match node:
        case Affine():
            return network.norms.of(node.linear)
        case Activation():
            return node.function.gain
        case _:
            return 1.0


def _prefixes(network: Network) -> list[float]:
    """Per executed node a Lipschitz constant of image -> its value."""
    folded = prefix_constants(network.folded, network.norms, averaged_operators)
    constants: list[float] = []
    for index, node in enumerate(network.executed.nodes):
        if index in network.folded_position:
            constants.append(folded[network.folded_position[index]])
        else:
            gain = _gain(network, node)
            constants.append(gain * sum(constants[source] for source in sources(node)))
    return constants


def _suffixes(network: Network) -> list[float]:
    """Per executed node a Lipschitz constant of its value -> feature."""
    folded = suffix_constants(network.folded, network.norms, averaged_operators)
    nodes, consumers = network.executed.nodes, network.executed.consumers
    constants = [1.0] * len(nodes)
    for index in range(len(nodes) - 1, -1, -1):
        if index in network.folded_position:
            constants[index] = folded[network.folded_position[index]]
            continue
        constants[index] = 0.0
        for reader in consumers[index]:
            node = nodes[reader]
            gain = _gain(network, node)
            constants[index] += gain * constants[reader]
    return constants
