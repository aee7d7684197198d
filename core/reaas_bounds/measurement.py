"""Measures the sums behind a float32 feature at given images, several images at a time."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Affine, Graph
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.propagation import Propagation, Sizes
from reaas_bounds.summation import EXTRA_ADDITIONS, FACTORS, UNIT_32

# Images measured together: float32 kernels take a third of the time that single images take.
GROUP = 16
# A random image: kernels do the same operations in the same order whatever the numbers are.
_SEED = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """What every node adds to the error of each image.

    ``added``: per node [n]. ``own`` [n, d]: the rounding of the last node's own sums, entry by
    entry; zeros if it has none.
    """

    added: list[Tensor]
    own: Tensor


@dataclass(frozen=True, eq=False)
class Measurement:
    """The executed graph in float32 and its constants, ready to measure images.

    An image's numbers are the same bits in any batch: kernels always see ``group`` images, and it
    was tried that they treat all of them alike (else groups are single images).
    """

    propagation: Propagation
    values: Graph
    magnitudes: Graph
    coefficients: list[tuple[Tensor, Tensor]]
    group: int

    @classmethod
    def of(cls, network: Network) -> Measurement:
        """Made once for each network, forgotten with it."""
        if (known := _KNOWN.get(network)) is None:
            known = _KNOWN[network] = cls._new(network)
        return known

    @classmethod
    def _new(cls, network: Network) -> Measurement:
        propagation = Propagation.of(network)
        values, magnitudes = network.executed_float32
        coefficients = [(r.magnitude.float(), r.total.float()) for r in propagation.rounding]
        made = cls(propagation, values, magnitudes, coefficients, GROUP)
        if made._treats_all_alike(network.input_shape):
            return made
        return cls(propagation, values, magnitudes, coefficients, 1)

    def at(self, x: Tensor) -> Measured:
        """What the nodes add at the images x [n, C, H, W]."""
        count = len(x)
        missing = max(1, -(-count // self.group)) * self.group - count
        filled = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
        groups = [self._group(part) for part in torch.split(filled, self.group)]
        joined = {name: torch.cat([group[name] for group in groups])[:count] for name in groups[0]}

        def sums(index: int, error: Tensor) -> Tensor:
            return joined["sums", index] + 2 * self.propagation.drift(index) * error

        def value(index: int, error: Tensor) -> Tensor:
            return joined["value", index] + 2 * error

        one = torch.ones(count, dtype=torch.float64)
        added = self.propagation.added(Sizes(joined["value", 0], one, sums, value))
        return Measured(added, joined["own", len(added) - 1])

    def _group(self, x: Tensor) -> dict[tuple[str, int], Tensor]:
        """At our own float32 values: norms of sums' roundings and of values, [g], by node.

        "own" of the last node: its rounding itself [g, d].
        """
        values = self.values.activations(x.float())
        last = len(values) - 1
        found = {("own", last): torch.zeros_like(values[last], dtype=torch.float64)}
        for index in self.propagation.rounded:
            rounding = self._rounding(index, values)
            found["sums", index] = _norms(rounding)
            if index == last:
                found["own", last] = rounding.double()
        for index in self.propagation.valued:
            found["value", index] = _norms(values[index])
        return found

    def _rounding(self, index: int, values: list[Tensor]) -> Tensor:
        """``magnitude T + total |s|`` [g, *shape] of an affine node, at our own float32 values.

        T and s are themselves good to ``gamma T``; and total is less than magnitude.
        """
        node = self.magnitudes.nodes[index]
        assert isinstance(node, Affine)
        magnitude, total = self.coefficients[index]
        products = node.linear.apply(values[node.source].abs()) + node.bias  # T
        relative = 4 * gamma(node.linear.terms + EXTRA_ADDITIONS + FACTORS, UNIT_32)
        return products.mul_(magnitude * (1 + relative)).addcmul_(values[index].abs(), total)

    def _treats_all_alike(self, shape: tuple[int, ...]) -> bool:
        """Whether one image gives the same bits in every place of a group."""
        image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(_SEED))
        measured = self._group(image.double().expand(self.group, *shape))
        return all(bool((part == part[0]).all()) for part in measured.values())


_KNOWN: WeakKeyDictionary[Network, Measurement] = WeakKeyDictionary()


def _norms(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64)
    return norms
