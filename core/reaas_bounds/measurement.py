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
from reaas_bounds.summation import EXACT, EXTRA_ADDITIONS, FACTORS, UNIT_32

# Images measured together: float32 kernels take a third of the time that single images take.
GROUP = 16
# A random image: kernels do the same operations in the same order whatever the numbers are.
_SEED = 0


@dataclass(frozen=True, eq=False)
class Measured:
    """What every node adds to the error of each image of a group.

    ``added``: per node [g]. ``own`` [g, d]: the rounding of the last node's own sums, entry by
    entry; zeros if it has none.
    """

    added: list[Tensor]
    own: Tensor


@dataclass(frozen=True, eq=False)
class Measurement:
    """The executed graph in float32 and its constants, ready to measure groups of images.

    An image's numbers are the same bits in any group: kernels always see ``group`` images, and it
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
        roundings = [rounding or EXACT for rounding in propagation.rounding]
        coefficients = [(r.magnitude.float(), r.total.float()) for r in roundings]
        made = cls(propagation, values, magnitudes, coefficients, GROUP)
        if made._treats_all_alike(network.input_shape):
            return made
        return cls(propagation, values, magnitudes, coefficients, 1)

    def groups(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images [n, C, H, W] in groups of the one size, the last one filled up with zeros."""
        missing = -len(x) % self.group
        filled = torch.cat([x, x.new_zeros(missing, *x.shape[1:])])
        return torch.split(filled, self.group) if len(x) else ()

    def at(self, x: Tensor) -> Measured:
        """What the nodes add at the images x [g, C, H, W]."""
        values = self.values.activations(x.float())
        last = len(values) - 1
        own = torch.zeros_like(values[last], dtype=torch.float64)

        def sums(index: int, error: Tensor) -> Tensor:
            nonlocal own
            if self.propagation.rounding[index] is EXACT:
                return torch.zeros_like(error)
            rounding = self._rounding(index, values)
            if index == last:
                own = rounding.double()
            return _norms(rounding) + 2 * self.propagation.drift(index) * error

        def value(index: int, error: Tensor) -> Tensor:
            return _norms(values[index]) + 2 * error

        image = _norms(x)
        sizes = Sizes(image, torch.ones_like(image), sums, value)
        return Measured(self.propagation.added(sizes), own.flatten(1))

    def _rounding(self, index: int, values: list[Tensor]) -> Tensor:
        """``magnitude T + total |s|`` [g, *shape] of an affine node, at our own float32 values.

        T and s are themselves good to ``gamma T``; and total is less than magnitude.
        """
        node = self.magnitudes.nodes[index]
        assert isinstance(node, Affine)
        magnitude, total = self.coefficients[index]
        products = node.linear.apply(values[node.source].abs()) + node.bias  # T
        relative = 4 * gamma(node.linear.terms + EXTRA_ADDITIONS + FACTORS, UNIT_32)
        return (magnitude * products + total * values[index].abs()) * (1 + relative)

    def _treats_all_alike(self, shape: tuple[int, ...]) -> bool:
        """Whether one image gives the same bits in every place of a group."""
        image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(_SEED))
        measured = self.at(image.double().expand(self.group, -1, -1, -1))
        return all(bool((part == part[0]).all()) for part in (*measured.added, measured.own))


_KNOWN: WeakKeyDictionary[Network, Measurement] = WeakKeyDictionary()


def _norms(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64)
    return norms
