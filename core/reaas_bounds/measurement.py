"""Measures the sums behind a float32 feature at given images, several images at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from reaas_bounds.graph.maps import Convolution
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Affine, Graph
from reaas_bounds.leading import LeadingForm
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.propagation import Propagation, Sizes
from reaas_bounds.summation import EXTRA_ADDITIONS, FACTORS, UNIT_32

# Images measured together: large groups take a third of the time of small ones, and single queries
# should not pay for large ones.
GROUPS = (64, 32, 16, 8, 4)
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

    An image's numbers are the same bits in any batch: kernels see groups of few sizes only, and it
    was tried that they treat every place in all of them alike (else groups are single images).
    """

    propagation: Propagation
    values: Graph
    magnitudes: Graph
    coefficients: list[tuple[Tensor, Tensor]]
    leading: dict[int, LeadingForm]
    groups: tuple[int, ...]

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
        forms = {index: _leading(propagation.graph, index) for index in propagation.rounded}
        leading = {index: form for index, form in forms.items() if form is not None}
        single = cls(propagation, values, magnitudes, coefficients, leading, (1,))
        return replace(single, groups=single._alike(network.input_shape) or (1,))

    def at(self, x: Tensor) -> Measured:
        """What the nodes add at the images x [n, C, H, W]."""
        count = len(x)
        groups = [self._group(part) for part in self._parts(x)]
        joined = {name: torch.cat([group[name] for group in groups])[:count] for name in groups[0]}

        def sums(index: int, error: Tensor) -> Tensor:
            return joined["sums", index] + 2 * self.propagation.drift[index] * error

        def value(index: int, error: Tensor) -> Tensor:
            return joined["value", index] + 2 * error

        one = torch.ones(count, dtype=torch.float64)
        added = self.propagation.added(Sizes(joined["value", 0], one, sums, value))
        return Measured(added, joined["own", len(added) - 1])

    def _parts(self, x: Tensor) -> Iterator[Tensor]:
        """Images in groups of the sizes allowed, at least one; the last filled up with zeros."""
        while True:
            size = next((size for size in self.groups if size <= len(x)), self.groups[-1])
            missing = max(0, size - len(x))
            part = x[:size]
            yield torch.cat([part, x.new_zeros(missing, *x.shape[1:])]) if missing else part
            x = x[size:]
            if not len(x):
                return

    def _group(self, x: Tensor) -> dict[tuple[str, int], Tensor]:
        """At our own float32 values: norms of sums' roundings and of values, [g], by node.

        "own" of the last node: its rounding itself [g, d].
        """
        values = self.values.activations(x.float().contiguous())
        last = len(values) - 1
        found = {("own", last): torch.zeros_like(values[last], dtype=torch.float64)}
        for index in self.propagation.rounded:
            if index != last and (form := self.leading.get(index)) is not None:
                found["sums", index] = self._size_of_rounding(index, form, values)
                continue
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

    def _size_of_rounding(self, index: int, form: LeadingForm, values: list[Tensor]) -> Tensor:
        """At least the norm of ``_rounding``, [g], for less."""
        node = self.magnitudes.nodes[index]
        assert isinstance(node, Affine)
        magnitude, total = self.coefficients[index]
        pixels = form.squares(values[node.source].abs()).sqrt_() * magnitude  # [g, 1, H, W]
        relative = 4 * gamma(node.linear.terms + EXTRA_ADDITIONS + FACTORS, UNIT_32)
        worst, _ = self.propagation.rounding[index].largest
        hidden = worst * form.lost * math.sqrt(pixels[0].numel())
        bias = worst * self.propagation.bias[index]
        products: Tensor = (_norms(pixels) + hidden + bias) * (1 + relative)
        return products + _norms(values[index] * total)

    def _alike(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sizes of groups, largest first, with the same bits for an image in every place."""
        image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(_SEED)).double()
        found: list[int] = []
        wanted: dict[tuple[str, int], Tensor] | None = None
        for size in reversed(GROUPS):
            measured = self._group(image.expand(size, *shape))
            wanted = wanted or {name: part[0] for name, part in measured.items()}
            if all(bool((part == wanted[name]).all()) for name, part in measured.items()):
                found.insert(0, size)
            elif not found:
                wanted = None
        return tuple(found)


_KNOWN: WeakKeyDictionary[Network, Measurement] = WeakKeyDictionary()


def _leading(graph: Graph, index: int) -> LeadingForm | None:
    node = graph.nodes[index]
    if isinstance(node, Affine) and isinstance(node.linear, Convolution):
        return LeadingForm.of(node.linear)
    return None


def _norms(values: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1, dtype=torch.float64)
    return norms
