"""Global Lipschitz constant of an encoder: layer product and averaged operators."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Node, Sum
from reaas_bounds.norms.operator import OperatorNorms

# Covers what the norms' own proofs leave out: sums and products of a few hundred float64 numbers
# here, kernels multiplied by 1/std or by a batch normalisation (4 roundings an entry).
RELATIVE_ROUNDING = 1e-9
# Weights of 1e-38 in a row of layers: products stay above this, so that none is lost to underflow.
_TINY = 2.0**-900
# Below this, entries of a product of maps may have been lost.
_FALLEN = 2.0**-500
# An encoder that depends on nothing has the constant 0; radii are quotients by this instead.
SMALLEST = 2.0**-400

Slopes = tuple[float, float]


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


@dataclass(frozen=True, eq=False)
class Chain:
    """Maps W_1, ..., W_n with activations between: ``slopes[k]`` is the range after k maps."""

    maps: tuple[LinearMap, ...] = ()
    slopes: tuple[Slopes, ...] = ((1.0, 1.0),)

    def then(self, node: Node) -> Chain:
        """The chain with ``node`` at its end."""
        match node:
            case Affine():
                return Chain((*self.maps, node.linear), (*self.slopes, (1.0, 1.0)))
            case Activation():
                last = _both(self.slopes[-1], node.function.slopes)
                return Chain(self.maps, (*self.slopes[:-1], last))
            case _:
                return self

    def after(self, node: Node) -> Chain:
        """The chain with ``node`` in front."""
        match node:
            case Affine():
                return Chain((node.linear, *self.maps), ((1.0, 1.0), *self.slopes))
            case Activation():
                first = _both(self.slopes[0], node.function.slopes)
                return Chain(self.maps, (first, *self.slopes[1:]))
            case _:
                return self


def _both(a: Slopes, b: Slopes) -> Slopes:
    """Range of the products of a slope of each."""
    products = [x * y for x in a for y in b]
    return min(products), max(products)


def _largest(slopes: Slopes) -> float:
    return max(abs(slopes[0]), abs(slopes[1]))


def lipschitz_constant(graph: Graph, norms: OperatorNorms) -> LipschitzConstant:
    """The smaller of the two constants; deterministic.

    Theorem (layer product): a function with slopes in [a, b] is max(|a|, |b|)-Lipschitz, so L is
    at most the product of these and of ||W_k||; at a sum of two paths their constants add (their
    squares, if the paths end in different entries).
    Theorem (averaged operators, Combettes & Pesquet, SIAM J. Math. Data Sci. 2020, Prop. 5.5):
    every such slope is C + R e with C = (a + b)/2, R = (b - a)/2, |e| <= 1. So a chain of n affine
    maps has L at most the sum over all ways to cut W_n ... W_1 into consecutive blocks of the
    product of the blocks' norms, times R where it is cut and |C| where it is not (1/2 both for
    ReLU). Chains between branch points are bounded so. The answer is never below 2^-400.
    """
    product = prefix_constants(graph, norms, layer_product)[-1]
    averaged = prefix_constants(graph, norms, averaged_operators)[-1]
    layers = tuple(norms.of(node.linear) for node in graph.nodes if isinstance(node, Affine))
    method = "averaged-operators" if averaged < product else "layer-product"
    constant = max(min(product, averaged) * (1 + RELATIVE_ROUNDING), SMALLEST)
    return LipschitzConstant(constant, method, layers)


def prefix_constants(
    graph: Graph, norms: OperatorNorms, bound: ChainBound, gains: Gains | None = None
) -> list[float]:
    """Per node k a constant of the map image -> h_k: chains by ``bound``, sums of paths added.

    ``gains(index, constants so far)``: the constants of a ``Joint`` in each of its inputs.
    """
    consumers = graph.consumers
    # Constant up to the last branch point, and what follows since then.
    states: list[Path] = []
    constants: list[float] = []
    for index, node in enumerate(graph.nodes):
        match node:
            case Input():
                state: Path = (1.0, Chain())
            case Affine() | Activation():
                constant, chain = states[node.source]
                state = (constant, chain.then(node))
            case Sum():
                paths = constants[node.left], constants[node.right]
                state = (math.hypot(*paths) if node.disjoint else sum(paths), Chain())
            case Joint():
                assert gains is not None
                known = zip(gains(index, constants), node.inputs, strict=True)
                state = (sum(_times(g, constants[k]) for g, k in known), Chain())
        constants.append(_times(state[0], bound(state[1], norms)))
        states.append(state if len(consumers[index]) == 1 else (constants[-1], Chain()))
    return constants


def suffix_constants(
    graph: Graph,
    norms: OperatorNorms,
    bound: ChainBound,
    gains: Mapping[int, Sequence[float]] | None = None,
    ends: Collection[int] = (),
) -> list[float]:
    """Per node k a constant of the map h_k -> feature; the mirror image of the prefixes.

    ``gains``: per ``Joint`` its constants in each of its inputs. ``ends``: where chains end, beside
    the nodes that are read more than once.
    """
    consumers = graph.consumers
    last = len(graph.nodes) - 1
    states: dict[int, Path] = {last: (1.0, Chain())}

    def before(reader: int, index: int) -> Path:
        """From the value ``index`` to the feature by way of ``reader``."""
        constant, chain = states[reader]
        node = graph.nodes[reader]
        if not isinstance(node, Joint):
            return constant, chain.after(node)
        assert gains is not None
        places = [k for k, source in enumerate(node.inputs) if source == index]
        gain = sum(gains[reader][k] for k in places) / len(places)  # of each time it is read
        return _times(gain, constant, bound(chain, norms)), Chain()

    for index in range(last - 1, -1, -1):
        paths = [before(reader, index) for reader in consumers[index]]
        if len(paths) == 1 and index not in ends:
            states[index] = paths[0]
        else:
            states[index] = (sum(_times(c, bound(chain, norms)) for c, chain in paths), Chain())
    return [_times(states[k][0], bound(states[k][1], norms)) for k in range(last + 1)]


def layer_product(chain: Chain, norms: OperatorNorms) -> float:
    """``prod ||W_k||`` and of the gains of the activations; 1 for an empty chain."""
    gains = (_largest(slopes) for slopes in chain.slopes)
    return _times(*gains, *(norms.of(linear) for linear in chain.maps))


def averaged_operators(chain: Chain, norms: OperatorNorms) -> float:
    """The averaged-operator constant of a chain; 1 for an empty one.

    The sum over all 2^(n-1) cuts is a recursion over the end of the last block: with ``S_0 = 1``,
    ``S_j = sum_{i < j} S_i R_i |C_{i+1}| ... |C_{j-1}| ||W_j ... W_{i+1}||`` and R_0 = 1.
    """
    sums = [_largest(chain.slopes[0])]  # S_i R_i
    for end in range(1, len(chain.maps) + 1):
        total, uncut = 0.0, 1.0
        for start in range(end - 1, -1, -1):
            total += _times(sums[start], uncut, _block(chain.maps[start:end], norms))
            uncut *= abs(sum(chain.slopes[start])) / 2
            if uncut == 0.0:  # as before a sort: nothing longer counts
                break
        low, high = chain.slopes[end]
        after = (high - low) / 2 if end < len(chain.maps) else _largest((low, high))
        sums.append(_times(total, after))
    return sums[-1]


def _block(maps: Sequence[LinearMap], norms: OperatorNorms) -> float:
    """Bound of the norm of a product of maps.

    Where entries of the product may have fallen below what float64 holds, its factors' norms.
    """
    found = norms.of(*maps)
    return found if found > _FALLEN else _times(*(norms.of(linear) for linear in maps))


def _times(*factors: float) -> float:
    """Upper bound of a product of numbers that are not negative: it is never lost to underflow.

    0 only where a factor is 0; then what follows depends on nothing, however large it is.
    """
    if 0.0 in factors:
        return 0.0
    product = 1.0
    for factor in factors:
        product = max(product * factor, _TINY)
    return product


Path = tuple[float, Chain]
Gains = Callable[[int, list[float]], Sequence[float]]
ChainBound = Callable[[Chain, OperatorNorms], float]
