"""The float32 error of networks with products of activations, on a region of images."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from reaas_bounds.bounds.region import Region
from reaas_bounds.flushing import LOST, flushing
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Joint
from reaas_bounds.propagation import Propagation, Sizes, prefixes, suffixes

# Float64 rounding of this analysis itself.
MARGIN = 1 + 1e-6
# An error up to this share of the value changes little about what is multiplied.
_SMALL = 1e-3


@dataclass(frozen=True, eq=False)
class Centre:
    """One image, and what its sums say about rounding; all regions around it share this.

    ``norms``: of the executed values; ``sums``: of the roundings of the affine nodes' sums.
    """

    network: Network
    norms: list[float]
    sums: list[float]
    image: float

    @classmethod
    def of(cls, network: Network, x: Tensor) -> Centre:
        """At ``x`` [1, C, H, W], float64."""
        known, graph = _known(network), network.executed
        values = graph.activations(x)
        sums = [0.0] * len(values)
        for index in known.rounded:
            node = known.affine(index)
            magnitude = node.linear.weighed.absolute().apply(values[node.source].abs())
            magnitude = magnitude + node.bias_magnitude
            part = known.rounding[index]
            rounded = part.magnitude * magnitude + part.total * values[index].abs()
            sums[index] = float(rounded.norm())
        return cls(network, [float(value.norm()) for value in values], sums, float(x.norm()))


@dataclass(frozen=True, eq=False)
class RegionError:
    """The float32 error of every image of ``region``, a set around ``centre``.

    Theorem: as in ``rounding``: every node adds its own rounding, the rest of the network carries
    it on by its constant. What a ``Joint`` carries depends on where its exact and its float32
    inputs can be: within the region's reach and the error so far. Deterministic.
    """

    region: Region
    centre: Centre
    gains: dict[int, tuple[float, ...]] = field(default_factory=dict)

    @cached_property
    def value(self) -> float:
        """``||feature_float32(x) - f(x)||_2`` is at most this for x in the region; or infinite."""
        network, known = self.region.network, self._propagation
        if known.flushing.safe_norm <= 0.0:
            return math.inf  # an operation may overflow
        one = torch.ones((), dtype=torch.float64)
        image = self.centre.image + self.region.radius
        added = known.added(Sizes(one * image, one, self._sums, self._value, self._joint))
        carried = suffixes(network, len(added) - 1, self.gains)
        return _total(carried, added) * MARGIN

    @cached_property
    def _propagation(self) -> Propagation:
        """Constants of the nodes, with what is lost to underflow on this region."""
        known, norms = _known(self.region.network), self.centre.norms
        sizes = [(0.0, norm + move) for norm, move in zip(norms, self._moves, strict=True)]
        parts = {"gain": known.gain, "absolute": known.absolute, "bias": known.bias}
        return replace(known, flushing=flushing(known.graph, sizes=sizes, **parts))

    @cached_property
    def _moves(self) -> list[float]:
        """Per executed node how far it moves on the region."""
        radius = self.region.radius
        constants = prefixes(self.region.network, self.region.constants)
        return [0.0 if not constant or not radius else constant * radius for constant in constants]

    def _sums(self, index: int, error: Tensor) -> Tensor:
        known = _known(self.region.network)
        source = known.affine(index).source
        moved = self._moves[source] + float(error)
        return error.new_tensor(self.centre.sums[index] + known.drift[index] * moved)

    def _value(self, index: int, error: Tensor) -> Tensor:
        return error + (self.centre.norms[index] + self._moves[index])

    def _joint(
        self, index: int, errors: list[Tensor], added: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        position = self.region.network.folded_position[index]
        folded = self.region.network.folded.nodes[position]
        node = self.region.network.executed.nodes[index]
        assert isinstance(folded, Joint)
        assert isinstance(node, Joint)
        off = [self._off(k, float(errors[k]), added) for k in node.inputs]
        inputs = [
            self.region.reached(k, error) for k, error in zip(folded.inputs, off, strict=True)
        ]
        gains = node.function.gains(*inputs)
        self.gains[position] = gains
        carried = sum(0.0 if not e else g * e for g, e in zip(gains, off, strict=True))
        own = node.function.rounding(*inputs)
        # Numbers below the smallest normal one may be read as 0.
        flushed = [LOST * math.sqrt(part.centre.numel()) for part in inputs]
        own += sum(gain * lost for gain, lost in zip(gains, flushed, strict=True))
        return torch.tensor(carried, dtype=torch.float64), torch.tensor(own, dtype=torch.float64)

    def _off(self, index: int, error: float, added: list[Tensor]) -> float:
        """The error of the value ``index``; its nodes one after the other may lose too much.

        What each node added, times its own constant up to there, is another bound of it.
        """
        if error <= _SMALL * self.centre.norms[index]:
            return error
        return min(error, _total(suffixes(self.region.network, index, self.gains), added))


def _total(constants: list[float], added: list[Tensor]) -> float:
    """Sum of what the nodes add, times their constants; infinite if it is no number."""
    total = 0.0
    for constant, part in zip(constants, added, strict=False):
        total += 0.0 if constant == 0.0 or float(part) == 0.0 else constant * float(part)
    return math.inf if math.isnan(total) else total


_KNOWN: WeakKeyDictionary[Network, Propagation] = WeakKeyDictionary()


def _known(network: Network) -> Propagation:
    """Made once for each network, forgotten with it."""
    if (known := _KNOWN.get(network)) is None:
        known = _KNOWN[network] = Propagation.of(network)
    return known
