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
from reaas_bounds.errors import CalledOffError
from reaas_bounds.ladder import Found, search_ladder
from reaas_bounds.pairs import Pairs
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions, rounded_down

Stop = Callable[[], bool]

# The envelope is tried where the constant is this much above the Jacobian at the image. Below it
# the envelope hardly ever wins (measured: docs/research/quadratic-envelope.md).
WORTH = 1.2
# A tolerance below this asks for the fine level: intervals of the neurons for every step, which
# cost more than the envelope.
FINE = 0.01
# Steps of an octave. The intervals of the fine level are made for the end of a step, so that
# narrower steps are tighter; those of the coarse level hardly depend on it.
COARSE_STEPS, FINE_STEPS = 1, 2
# Where the search begins, between what is known and what is out of reach, as a power of their
# quotient: about the median of where it ends, on unregularised encoders.
COARSE_START, FINE_START = 0.4, 0.15


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
    try:
        return _searched(pair, options, stop, fine)
    except CalledOffError:
        known = float(pair.lipschitz)
        return CertifiedRadius(known, Method.LOCAL, known, steps=0, converged=False)


def _searched(pair: Pairs, options: SearchOptions, stop: Stop, fine: bool) -> CertifiedRadius:
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

        def certify(low: float, high: float) -> float:
            def moves(index: int) -> Tensor:
                return neuron_reach(self.local, index) * high

            return self._radius(low, high, moves)

        return self._search(certify, known, COARSE_START, COARSE_STEPS)

    def fine(self, known: float) -> Found:
        """By intervals of the neurons in a ball of the step's own size."""

        def certify(low: float, high: float) -> float:
            intervals = relaxed(self.centre, self.pair.inputs.new_tensor([high])).intervals

            def moves(index: int) -> Tensor:
                most = torch.maximum(intervals[index].upper.abs(), intervals[index].lower.abs())
                return torch.minimum(most, neuron_reach(self.local, index) * high)

            return self._radius(low, high, moves)

        return self._search(certify, known, FINE_START, FINE_STEPS)

    def _search(
        self, certify: Callable[[float, float], float], known: float, share: float, per_octave: int
    ) -> Found:
        start = known * (self.limit / known) ** share if math.isfinite(self.limit) else known
        return search_ladder(certify, start, known, self.limit, self.stop, per_octave)

    def _radius(self, low: float, high: float, moves: Moves) -> float:
        made = ball_envelope(self.local, math.sqrt(low * high), high, moves)
        return min(made.with_slope(self.pair.slope).radius(self.allowance), high)
