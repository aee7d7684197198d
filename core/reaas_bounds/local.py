"""LOCAL: what the envelope of the ball around each image certifies beyond the constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reaas_bounds.bounds import Centre, Local, ball_envelope, jacobian_norm
from reaas_bounds.bounds.ball import Moves, neuron_reach
from reaas_bounds.bounds.crown import relaxed
from reaas_bounds.ladder import Found, search_ladder
from reaas_bounds.pairs import Pairs
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions, rounded_down

Stop = Callable[[], bool]

# The envelope is tried where the constant is this much above the Jacobian at the image. Below it
# the envelope hardly ever wins (measured: docs/research/quadratic-envelope.md).
WORTH = 1.2
# A tolerance below this asks for the fine level: intervals of the neurons for every rung, which
# cost more than the envelope.
FINE = 0.01
# The fine level has been seen to certify up to 2.5 times as much as the coarse one; its envelopes
# for larger balls are the costliest.
GROWTH = 3.0


def certify_locally(
    pairs: Pairs, options: SearchOptions, stop: Stop, *, fine: bool = False
) -> list[CertifiedRadius]:
    """Radii by ``min(L r, envelope of the ball)``, a sound bound at each image; deterministic.

    At least the closed form of the constant, at no cost where little can be won. A larger R' never
    gives a smaller radius unless the search is cut off. Each pair is worked on alone.

    ``fine``: the fine level whatever the options say. Steps are envelopes; a pair where nothing
    was to be won has none.
    """
    fine = fine or options.relative_tolerance < FINE
    count = len(pairs.inputs)
    return [_certify(pairs.select([index]), options, stop, fine) for index in range(count)]


def _certify(pair: Pairs, options: SearchOptions, stop: Stop, fine: bool) -> CertifiedRadius:
    known, allowance = float(pair.lipschitz), float(pair.allowance)
    to_first_order = jacobian_norm(pair.network.folded_float32, pair.inputs.float())
    if known == 0.0 or pair.constant <= WORTH * to_first_order:
        return CertifiedRadius(known, Method.LOCAL, known, steps=0, converged=True)
    limit = allowance / to_first_order if to_first_order > 0 else math.inf
    left = iter(range(options.max_steps))
    search = _Search(pair, allowance, limit, lambda: next(left, None) is None or stop())
    found = search.coarse(known)
    radius, envelopes = max(known, found.radius), found.envelopes
    if found.finished and fine:
        found = search.fine(radius)
        radius, envelopes = max(radius, found.radius), envelopes + found.envelopes
    radius = max(known, rounded_down(radius))
    return CertifiedRadius(radius, Method.LOCAL, radius, envelopes, found.finished)


@dataclass(frozen=True, eq=False)
class _Search:
    """One pair: how far its feature may move, and a radius out of reach."""

    pair: Pairs
    allowance: float
    limit: float
    stop: Stop

    @cached_property
    def local(self) -> Local:
        """The network at the image."""
        return Local.of(self.pair.network, self.pair.inputs)

    @cached_property
    def centre(self) -> Centre:
        """The same as intervals want it."""
        return Centre.of(self.pair.network, self.pair.inputs)

    def coarse(self, known: float) -> Found:
        """By what is known of the neurons for all images."""

        def certify(radius: float) -> float:
            within = 2 * radius  # the next rung

            def moves(index: int) -> Tensor:
                return neuron_reach(self.local, index) * within

            return self._radius(radius, within, moves)

        return search_ladder(certify, known, self.limit, self.stop, per_octave=1)

    def fine(self, known: float) -> Found:
        """By intervals of the neurons in a ball of the rung's own size."""

        def certify(radius: float) -> float:
            intervals = relaxed(self.centre, self.pair.inputs.new_tensor([radius])).intervals

            def moves(index: int) -> Tensor:
                most = torch.maximum(intervals[index].upper.abs(), intervals[index].lower.abs())
                return torch.minimum(most, neuron_reach(self.local, index) * radius)

            return self._radius(radius, radius, moves)

        limit = min(self.limit, GROWTH * known)
        return search_ladder(certify, known, limit, self.stop, per_octave=3)

    def _radius(self, radius: float, within: float, moves: Moves) -> float:
        envelope = ball_envelope(self.local, radius, within, moves).with_slope(self.pair.slope)
        return min(envelope.radius(self.allowance), within)
