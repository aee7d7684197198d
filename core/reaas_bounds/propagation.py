"""How rounding errors travel through an encoder: what each node adds, and what follows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.bounds.lipschitz import averaged_operators, prefix_constants, suffix_constants
from reaas_bounds.flushing import NOTHING_KNOWN, Flushing, Line, flushing
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Node, Sum, sources
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.summation import EXACT, UNIT_32, SumRounding, additions_of, sum_rounding

# uint8 / 255 or uint8 * (1/255) in float32.
INPUT_TERMS = 3


@dataclass(frozen=True, eq=False)
class Sizes:
    """Bounds of norms, as functions of a node and the error of what it reads.

    ``image``: of the image; ``one``: the number 1 in the same form. ``sums(index, error)``: of
    ``magnitude T + total |s|`` at an affine node (see `SumRounding`), for float32 values within
    ``error`` of the exact ones. ``value(index, error)``: of the float32 value of a node.
    ``joint(index, errors, added)``: what a ``Joint`` carries on of the nodes' errors so far, which
    is what they added and carried, and what it adds.
    """

    image: Tensor
    one: Tensor
    sums: Callable[[int, Tensor], Tensor]
    value: Callable[[int, Tensor], Tensor]
    joint: Callable[[int, list[Tensor], list[Tensor]], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True, eq=False)
class Propagation:
    """Constants of the executed nodes.

    Attributes:
        gain: Lipschitz constant of a node in each of its inputs.
        absolute: norm of its absolute weights (1 where it has none).
        suffix: Lipschitz constant of the map from its value to the feature; none if coupled.
        head: the node that the affine maps at the end read (the last one if there are none).
        to_head: as ``suffix``, to the value of that node; 0 after it.
        rounding: of its sums (exact: no affine node).
        bias: norm of its bias's magnitude (0: no affine node).
        fused: additions behind what it reads that ONNX Runtime may run on through this node.
        drift: what one unit of error in the inputs of an affine node adds to ``Sizes.sums``.
        sizes: bound of the norm of each node's value, as a line in that of the image.
        flushing: what the nodes lose to underflow, and where they would overflow; with ``sizes``,
            not known of a coupled network but on a region.
    """

    graph: Graph
    gain: list[float]
    absolute: list[float]
    suffix: list[float]
    head: int
    to_head: list[float]
    rounding: list[SumRounding]
    bias: list[float]
    fused: list[int]
    drift: list[float]
    sizes: list[Line]
    flushing: Flushing

    @classmethod
    def of(cls, network: Network) -> Propagation:
        """Norms come from the network's memory; the rest is cheap."""
        nodes = network.executed.nodes
        head = _head(network)
        gain = [_gain(network, node) for node in nodes]
        absolute = [_absolute(network, node) for node in nodes]
        rounding = [sum_rounding(n) if isinstance(n, Affine) else EXACT for n in nodes]
        largest = [part.largest for part in rounding]
        bias = [_bias(node) for node in nodes]
        sizes = [] if network.coupled else _sizes(network)
        lost = (
            NOTHING_KNOWN
            if network.coupled
            else flushing(network.executed, sizes=sizes, gain=gain, absolute=absolute, bias=bias)
        )
        return cls(
            graph=network.executed,
            gain=gain,
            absolute=absolute,
            suffix=[] if network.coupled else suffixes(network, len(nodes) - 1),
            head=head,
            to_head=[] if network.coupled else suffixes(network, head),
            rounding=rounding,
            bias=bias,
            fused=_fused(network.executed),
            drift=[m * a + t * g for (m, t), a, g in zip(largest, absolute, gain, strict=True)],
            sizes=sizes,
            flushing=lost,
        )

    def affine(self, index: int) -> Affine:
        """Node ``index``, which must be affine."""
        node = self.graph.nodes[index]
        assert isinstance(node, Affine)
        return node

    @property
    def rounded(self) -> list[int]:
        """The nodes whose sums round."""
        return [k for k, rounding in enumerate(self.rounding) if rounding is not EXACT]

    @property
    def valued(self) -> list[int]:
        """The nodes whose values' norms decide what is added: of them, or of what reads them."""
        nodes = self.graph.nodes
        wanted = {0}
        for index, node in enumerate(nodes):
            if isinstance(node, Sum):
                wanted.update((index, *sources(node)))
            elif isinstance(node, Activation):
                wanted.update([index] if node.function.relative_error > 0 else [])
                wanted.update([node.source] if node.function.argument_error > 0 else [])
        return sorted(wanted)

    def added(self, sizes: Sizes) -> list[Tensor]:
        """Per node the norm of the error that it adds to what it reads. Deterministic.

        Convolutions and matrix products go on adding where ONNX Runtime fuses an elementwise bias
        or a residual sum into them: each addition can be off by u times what is added there.
        """
        added = [gamma(INPUT_TERMS, UNIT_32) * sizes.image + self._lost(0, sizes)]
        errors = list(added)
        for index, node in enumerate(self.graph.nodes[1:], start=1):
            read = [errors[source] for source in sources(node)]
            if isinstance(node, Joint):
                assert sizes.joint is not None
                carried, own = sizes.joint(index, errors, added)
            else:
                carried = self.gain[index] * (read[0] if len(read) == 1 else read[0] + read[1])
                own = self._added(index, node, carried, errors, sizes)
                if not isinstance(node, Affine) or self.rounding[index] is not EXACT:
                    own = own + self._lost(index, sizes) + self.flushing.per_error[index] * read[0]
            added.append(own)
            errors.append(carried + added[-1])
        return added

    def _lost(self, index: int, sizes: Sizes) -> Tensor:
        slope, offset = self.flushing.lost[index]
        return slope * sizes.image + offset * sizes.one

    def _added(
        self, index: int, node: Node, carried: Tensor, errors: list[Tensor], sizes: Sizes
    ) -> Tensor:
        further = gamma(self.fused[index], UNIT_32)
        match node:
            case Affine():
                if self.rounding[index] is EXACT:
                    return torch.zeros_like(carried)
                bias = further * self.bias[index]
                return sizes.sums(index, errors[node.source]) + bias * sizes.one
            case Activation():
                function = node.function
                added = function.absolute_error * math.sqrt(math.prod(node.shape)) * sizes.one
                if function.relative_error > 0:
                    added = added + function.relative_error * sizes.value(index, carried)
                if function.argument_error > 0:
                    argument = sizes.value(node.source, errors[node.source])
                    added = added + function.argument_error * argument
                return added
            case Sum():
                parts = [sizes.value(k, errors[k]) for k in sources(node)]
                return UNIT_32 * sizes.value(index, carried) + further * (parts[0] + parts[1])
            case Input() | Joint():
                raise AssertionError("the input is node 0, and a joint is asked by itself")


def _sizes(network: Network) -> list[Line]:
    """Norms of all values: at the black image, and a Lipschitz constant times that of the image."""
    black = torch.zeros(1, *network.input_shape, dtype=torch.float64)
    values = network.executed.activations(black)
    return [(p, float(v.norm())) for p, v in zip(prefixes(network), values, strict=True)]


def _fused(graph: Graph) -> list[int]:
    """Per node the additions of the convolution or matrix product that may be fused with it.

    A chain of elementwise maps behind one, and a sum of two paths that ends in it.
    """
    behind = [0]  # additions behind the value of each node
    for node in graph.nodes[1:]:
        match node:
            case Affine():
                own = additions_of(node)
                behind.append(own if own else behind[node.source])
            case Sum():
                behind.append(max(behind[node.left], behind[node.right]))
            case _:
                behind.append(0)
    return [
        0
        if isinstance(node, Affine) and additions_of(node)
        else max((behind[source] for source in sources(node)), default=0)
        for node in graph.nodes
    ]


def _gain(network: Network, node: Node) -> float:
    """Lipschitz constant of one node in each of its inputs."""
    match node:
        case Affine():
            return network.norms.of(node.linear)
        case Activation():
            return node.function.gain
        case _:
            return 1.0


def _head(network: Network) -> int:
    nodes = network.executed.nodes
    index = len(nodes) - 1
    while isinstance(node := nodes[index], Affine):
        index = node.source
    return index if index in network.folded_position else len(nodes) - 1


def _absolute(network: Network, node: Node) -> float:
    return network.norms.of_absolute(node.linear.weighed) if isinstance(node, Affine) else 1.0


def _bias(node: Node) -> float:
    if not isinstance(node, Affine):
        return 0.0
    return float(node.bias_magnitude.expand(node.shape).norm())


def prefixes(network: Network, folded: list[float] | None = None) -> list[float]:
    """Per executed node a Lipschitz constant of image -> its value.

    ``folded``: those of the folded nodes, where they are known.
    """
    if folded is None:
        folded = prefix_constants(network.folded, network.norms, averaged_operators)
    constants: list[float] = []
    for index, node in enumerate(network.executed.nodes):
        if index in network.folded_position:
            constants.append(folded[network.folded_position[index]])
        else:
            gain = _gain(network, node)
            constants.append(gain * sum(constants[source] for source in sources(node)))
    return constants


def suffixes(
    network: Network, last: int, gains: Mapping[int, Sequence[float]] | None = None
) -> list[float]:
    """Per executed node a Lipschitz constant of its value -> that of node ``last``; 0 after it.

    ``last`` must survive in the folded graph. ``gains``: of the ``Joint`` nodes of that graph.
    """
    end = network.folded_position[last]
    until = Graph(network.folded.nodes[: end + 1])
    # Chains end where they end in the whole graph: their norms are known.
    ends = {k for k, readers in enumerate(network.folded.consumers) if len(readers) > 1}
    folded = suffix_constants(until, network.norms, averaged_operators, gains, ends)
    nodes, consumers = network.executed.nodes, network.executed.consumers
    constants = [0.0] * len(nodes)
    for index in range(last, -1, -1):
        position = network.folded_position.get(index, end + 1)
        if position <= end:
            constants[index] = folded[position]
            continue
        for reader in consumers[index]:
            constants[index] += _gain(network, nodes[reader]) * constants[reader]
    return constants
