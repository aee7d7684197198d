"""Global Lipschitz constant of an encoder: layer product and averaged operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.nodes import Affine, Graph, Input, Node, Relu, Sum
from reaas_bounds.norms.operator import OperatorNorms

# Covers what the norms' own proofs leave out: sums and products of a few hundred float64 numbers
# here, kernels multiplied by 1/std or by a batch normalisation (4 roundings an entry).
RELATIVE_ROUNDING = 1e-9


@dataclass(frozen=True)
class LipschitzConstant:
    """``||f(x) - f(y)||_2 <= value ||x - y||_2`` for all images.

    Attributes:
        value: the constant, float64 rounding included.
        method: ``layer-product`` or ``averaged-operators``, whichever was smaller.
        layer_norms: certified norm of each affine map of the folded network, in graph order.
    """

    value: float
    method: str
    layer_norms: tuple[float, ...]


def lipschitz_constant(graph: Graph, norms: OperatorNorms) -> LipschitzConstant:
    """The smaller of the two constants; deterministic.

    Theorem (layer product): ReLU is 1-Lipschitz, so L <= prod ||W_k||; at a sum of two paths
    their constants add. Theorem (averaged operators, Combettes & Pesquet, SIAM J. Math. Data
    Sci. 2020, Prop. 5.5): every slope of ReLU is (1 + e)/2 with |e| <= 1, so a chain of n affine
    maps has L <= 2^-(n-1) * sum over all ways to cut W_n ... W_1 into consecutive blocks of the
    product of the blocks' norms. Chains between branch points are bounded so.
    """
    product = prefix_constants(graph, norms, layer_product)[-1]
    averaged = prefix_constants(graph, norms, averaged_operators)[-1]
    layers = tuple(norms.of(node.linear) for node in graph.nodes if isinstance(node, Affine))
    method = "averaged-operators" if averaged < product else "layer-product"
    return LipschitzConstant(min(product, averaged) * (1 + RELATIVE_ROUNDING), method, layers)


def prefix_constants(graph: Graph, norms: OperatorNorms, bound: ChainBound) -> list[float]:
    """Per node k a constant of the map image -> h_k: chains by ``bound``, sums of paths added."""
    consumers = graph.consumers
    # Constant up to the last branch point, and the affine maps since then.
    states: list[Path] = []
    constants: list[float] = []
    for index, node in enumerate(graph.nodes):
        match node:
            case Input():
                state: Path = (1.0, ())
            case Affine():
                constant, chain = states[node.source]
                state = (constant, (*chain, node.linear))
            case Relu():
                state = states[node.source]
            case Sum():
                state = (constants[node.left] + constants[node.right], ())
        constants.append(state[0] * bound(state[1], norms))
        states.append(state if len(consumers[index]) == 1 else (constants[-1], ()))
    return constants


def suffix_constants(graph: Graph, norms: OperatorNorms, bound: ChainBound) -> list[float]:
    """Per node k a constant of the map h_k -> feature; the mirror image of the prefixes."""
    consumers = graph.consumers
    last = len(graph.nodes) - 1
    states: dict[int, Path] = {last: (1.0, ())}
    for index in range(last - 1, -1, -1):
        paths = [_before(graph.nodes[reader], states[reader]) for reader in consumers[index]]
        if len(paths) == 1:
            states[index] = paths[0]
        else:
            states[index] = (sum(c * bound(chain, norms) for c, chain in paths), ())
    return [states[k][0] * bound(states[k][1], norms) for k in range(last + 1)]


def _before(node: Node, after: Path) -> Path:
    """The path from an input of ``node`` on, from the path from its output on."""
    constant, chain = after
    return (constant, (node.linear, *chain)) if isinstance(node, Affine) else after


def layer_product(chain: Sequence[LinearMap], norms: OperatorNorms) -> float:
    """``prod ||W_k||`` of a chain W_1, ReLU, W_2, ..., W_n; 1 for an empty one."""
    return math.prod(norms.of(linear) for linear in chain)


def averaged_operators(chain: Sequence[LinearMap], norms: OperatorNorms) -> float:
    """The averaged-operator constant of a chain W_1, ReLU, W_2, ..., W_n; 1 for an empty one.

    The sum over all 2^(n-1) cuts is a recursion over the end of the last block:
    ``S_j = sum_{i <= j} S_{i-1} ||W_j ... W_i||``, ``L = 2^-(n-1) S_n``.
    """
    if not chain:
        return 1.0
    sums = [1.0]
    for end in range(1, len(chain) + 1):
        blocks = [norms.of(*chain[start:end]) for start in range(end)]
        sums.append(sum(s * block for s, block in zip(sums, blocks, strict=True)))
    return math.ldexp(sums[-1], 1 - len(chain))


Path = tuple[float, tuple[LinearMap, ...]]
ChainBound = Callable[[Sequence[LinearMap], OperatorNorms], float]
