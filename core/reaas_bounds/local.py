"""LOCAL: what the envelope of the ball around each image certifies beyond the constant."""

from __future__ import annotations

from collections.abc import Callable

import torch

from reaas_bounds.bounds import Local, ball_envelope, jacobian_norm
from reaas_bounds.ladder import Ladder
from reaas_bounds.pairs import Pairs
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions, rounded_down

# The envelope is tried where the constant is this much above the Jacobian at the image. Below it
# the envelope hardly ever wins (measured: docs/research/quadratic-envelope.md).
WORTH = 1.2
# A tolerance below the default one asks for the fine level: a finer ladder, some percent larger.
FINE = 0.01


def certify_locally(
    pairs: Pairs, options: SearchOptions, stop: Callable[[], bool]
) -> list[CertifiedRadius]:
    """Radii by ``min(L r, envelope of the ball)``, a sound bound at each image; deterministic.

    At least the closed form of the constant, at no cost where little can be won. A larger R' never
    gives a smaller radius unless the search is cut off. Each pair is worked on alone.
    """
    return [_certify(pairs.select([index]), options, stop) for index in range(len(pairs.inputs))]


def _certify(pair: Pairs, options: SearchOptions, stop: Callable[[], bool]) -> CertifiedRadius:
    known, allowance = float(pair.lipschitz), float(pair.allowance)
    to_first_order = jacobian_norm(pair.network.folded_float32, pair.inputs.float())
    if known == 0.0 or pair.constant <= WORTH * to_first_order:
        return CertifiedRadius(known, Method.LOCAL, known, steps=0, converged=True)
    local = Local.of(pair.network, pair.inputs)
    left = iter(range(options.max_steps))

    def certify(radius: float, within: float) -> float:
        envelope = ball_envelope(local, radius, within).with_slope(pair.slope)
        return min(envelope.radius(allowance), within)

    def cut_off() -> bool:
        return next(left, None) is None or stop()

    limit = allowance / to_first_order if to_first_order > 0 else torch.inf
    fine = options.relative_tolerance < FINE
    found = Ladder(certify, known, limit, cut_off).search(fine=fine)
    radius = max(known, rounded_down(found.radius))
    return CertifiedRadius(radius, Method.LOCAL, radius, found.envelopes, found.finished)
