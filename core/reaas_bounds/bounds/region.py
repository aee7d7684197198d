"""A set of images on which a network with products of activations has Lipschitz constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reaas_bounds.bounds.enclosure import Ends, enclosures
from reaas_bounds.bounds.lipschitz import (
    RELATIVE_ROUNDING,
    averaged_operators,
    prefix_constants,
)
from reaas_bounds.graph.activation import Clip
from reaas_bounds.graph.coupling import Reached
from reaas_bounds.graph.network import Network
from reaas_bounds.graph.nodes import Activation, Joint, Node
from reaas_bounds.graph.smooth import SLACK, Smooth

# An activation whose values out there are no larger than that is bounded; how much further they
# get beyond is less than the slack of values out there, 1e-5.
_FAR, _BOUNDED = 1e9, 1e3
# Values that the services take (``accepted_range`` of a manifest): the constants that a manifest
# publishes hold for images with all pixels in this range, and no others are ever encoded.
ACCEPTED = (-16.0, 16.0)


@dataclass(frozen=True, eq=False)
class Region:
    """All images within ``radius`` of one, or a box around it; the region is convex.

    Theorem: in a convex set a ``Joint`` has a constant in each of its inputs (``Coupling.gains``)
    as soon as it is known how far they move from the centre: by induction along the graph, at most
    their own constant times the radius. Everything between is bounded as in a network without
    (``prefix_constants``). Deterministic; rounding included.

    Attributes:
        values: per folded node its value at the centre, [*shape].
        intervals: per folded node where its values lie, if that is known.
        constants: per folded node a constant of the map image -> node on the region.
        gains: per ``Joint`` (folded index) its constants in each of its inputs on the region.
    """

    network: Network
    values: list[Tensor]
    radius: float
    intervals: list[Ends] | None = None
    constants: list[float] = field(init=False)
    gains: dict[int, tuple[float, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        graph, norms = self.network.folded, self.network.norms

        def gains(index: int, constants: list[float]) -> tuple[float, ...]:
            node = graph.nodes[index]
            assert isinstance(node, Joint)
            moved = [self._reached(k, _product(constants[k], self.radius)) for k in node.inputs]
            self.gains[index] = node.function.gains(*moved)
            return self.gains[index]

        found = prefix_constants(graph, norms, averaged_operators, gains)
        grown = [constant * (1 + RELATIVE_ROUNDING) for constant in found]
        object.__setattr__(self, "constants", grown)

    @classmethod
    def around(cls, network: Network, x: Tensor, radius: float) -> Region:
        """The ball of ``radius`` around the image ``x`` [1, C, H, W], float64 on the CPU."""
        return cls(network, [value[0] for value in network.folded.activations(x)], radius)

    @classmethod
    def accepted(cls, network: Network) -> Region:
        """All images that a service takes."""
        low, high = ACCEPTED
        middle = torch.full((1, *network.input_shape), (low + high) / 2, dtype=torch.float64)
        values = [value[0] for value in network.folded.activations(middle)]
        radius = (high - low) / 2 * math.sqrt(middle.numel()) * (1 + RELATIVE_ROUNDING)
        return cls(network, values, radius, enclosures(network.folded, low, high))

    def within(self, radius: float) -> Region:
        """The ball of another radius around the same image."""
        return Region(self.network, self.values, radius)

    @property
    def constant(self) -> float:
        """``||f(x) - f(y)||_2 <= constant ||x - y||_2`` on the region."""
        return self.constants[-1]

    def reached(self, index: int, further: float = 0.0) -> Reached:
        """Values of folded node ``index``, and others within ``further`` of them."""
        move = _product(self.constants[index], self.radius)
        return self._reached(index, move, further)

    def _reached(self, index: int, move: float, further: float = 0.0) -> Reached:
        centre = self.values[index]
        found = Reached.within(centre, move + further)
        if self.intervals is not None:
            lower, upper = self.intervals[index]
            found = found.between(lower - further, upper + further)
        limits = _limits(self.network.folded.nodes[index])
        return found if limits is None else found.between(*(centre.new_tensor(x) for x in limits))


def _limits(node: Node) -> tuple[float, float] | None:
    """Between which numbers all values of a bounded activation lie, those in float32 too."""
    if not isinstance(node, Activation) or not isinstance(node.function, Clip | Smooth):
        return None
    function, far = node.function, torch.tensor(_FAR, dtype=torch.float64)
    low, high = (float(end) for end in function.image(-far, far))
    if function.argument_error > 0 or max(-low, high) > _BOUNDED:
        return None
    off = function.absolute_error + function.relative_error * max(-low, high) + SLACK * _FAR
    return low - off, high + off


def _product(constant: float, radius: float) -> float:
    """Zero where either is, whatever the other."""
    return 0.0 if constant == 0.0 or radius == 0.0 else constant * radius
