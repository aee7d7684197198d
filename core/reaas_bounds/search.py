"""F2IPerturb: the largest radius in image space that keeps the feature inside its ball."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from reaas_bounds.ball_search import Allowance, BallSearch
from reaas_bounds.bounds import per_coordinate_floor
from reaas_bounds.bounds.searched import CROWN, CROWN_JOINT, IBP, Image, Searched
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.graph.network import Network
from reaas_bounds.local import certify_locally
from reaas_bounds.normalisation import radii_before
from reaas_bounds.pairs import Pairs
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions, check_query

Stop = Callable[[], bool]

_SEARCHED: dict[Method, Searched] = {
    Method.IBP: IBP,
    Method.CROWN: CROWN,
    Method.CROWN_JOINT: CROWN_JOINT,
}
# Neurons of all images that one bound evaluation works on: the larger, the longer a deadline has
# to wait (CROWN on 2^14 neurons takes about 2 s), the smaller, the more of the time of a small
# network goes to overhead.
_NEURONS = 2**14


def never() -> bool:
    """The default ``stop``: run to the end."""
    return False


def certify_ball(
    network: Network,
    constants: CertifiedConstants,
    inputs: Tensor,
    feature_radii: Tensor,
    method: Method = Method.AUTO,
    options: SearchOptions | None = None,
    stop: Stop = never,
) -> list[CertifiedRadius]:
    """Certified radii of (image, feature radius) pairs, one per pair; deterministic.

    Theorem: with ``B(r) >= max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``, e(x) a bound of the
    float32 error of the feature of x, and slope its growth, ``B(r) + 2 e(x) + slope r <= R'``
    implies that the float32 features of all images within r of x lie within R' of x's. The
    answer is the largest r found for which this was checked; 0 if no r > 0 passes.

    AUTO is the largest of LIPSCHITZ (closed form), LOCAL (fine level), IBP, CROWN and CROWN_JOINT.
    A bound that fails just above the best so far, or provably would, is dropped: its own answer
    would not be larger. CROWN_JOINT is left out where the constant is close to the Jacobian and
    bounds of single coordinates cannot win.

    Features that are divided by their length: ``radii_before`` says what that is before.

    A larger R' never gives a smaller radius, unless a search is cut off; for CROWN, and with it
    AUTO, under the condition that ``BallSearch`` states.

    Args:
        network: the encoder at the client's input size.
        constants: ``certified_constants(network)``.
        inputs: images [n, C, h, w], float64 in [0,1] units.
        feature_radii: R' [n], float64, >= 0.
        method: the bound to use.
        options: search effort.
        stop: asked between bound evaluations; once True, the certified lower ends so far are
            returned with ``converged`` False.

    Raises:
        InvalidQueryError: shapes or values that make no sense; names the argument.
    """
    check_query(network, inputs, feature_radii)
    options = options or SearchOptions()
    if network.least_length is not None:
        feature_radii = radii_before(network, inputs, feature_radii)
        network, constants = network.before, constants.undivided
    pairs = Pairs.of(network, constants, inputs, feature_radii)
    closed = [_closed_form(radius) for radius in pairs.lipschitz.tolist()]
    if method is Method.LIPSCHITZ:
        return closed
    answers: list[CertifiedRadius] = []
    for chunk in _chunks(pairs):
        known = closed[len(answers) : len(answers) + len(chunk.inputs)]
        if method is Method.AUTO:
            answers += _best_of_all(chunk, known, options, stop)
        elif method is Method.LOCAL:
            answers += certify_locally(chunk, options, stop)
        else:
            answers += _search(chunk, method, options, stop, goals=[0.0] * len(known))
    return answers


def _chunks(pairs: Pairs) -> list[Pairs]:
    """Pairs in groups of about ``_NEURONS`` activations."""
    each = sum(math.prod(node.shape) for node in pairs.network.folded.nodes)
    size = max(1, _NEURONS // each)
    count = len(pairs.inputs)
    return [pairs.select(range(i, min(i + size, count))) for i in range(0, count, size)]


def _closed_form(radius: float) -> CertifiedRadius:
    return CertifiedRadius(radius, Method.LIPSCHITZ, upper=radius, steps=0, converged=True)


def _best_of_all(
    pairs: Pairs, closed: list[CertifiedRadius], options: SearchOptions, stop: Stop
) -> list[CertifiedRadius]:
    """The largest radius of all bounds for every pair."""
    if stop():
        return [replace(answer, converged=False) for answer in closed]
    local = certify_locally(pairs, options, stop, fine=True)
    best = [_combined(a, b) for a, b in zip(closed, local, strict=True)]
    if stop():
        return [replace(answer, converged=False) for answer in best]
    radii = torch.tensor([answer.radius for answer in best], dtype=torch.float64)
    allowed = pairs.allowed(radii)
    floor = per_coordinate_floor(pairs.network, pairs.inputs, radii, allowed)
    positive = pairs.lipschitz > 0
    single = ((floor <= allowed) & positive).nonzero().flatten().tolist()
    worked = [index for index, answer in enumerate(local) if answer.steps > 0]
    joint = sorted({*single, *worked})
    for method, left in ((Method.IBP, single), (Method.CROWN, single), (Method.CROWN_JOINT, joint)):
        goals = [best[index].radius for index in left]
        found = _search(pairs.select(left), method, options, stop, goals) if left else []
        for index, answer in zip(left, found, strict=True):
            best[index] = _combined(best[index], answer)
    return best


def _combined(a: CertifiedRadius, b: CertifiedRadius) -> CertifiedRadius:
    """The better answer, with the effort of both."""
    better = b if b.radius > a.radius else a
    return replace(better, steps=a.steps + b.steps, converged=a.converged and b.converged)


def _search(
    pairs: Pairs, method: Method, options: SearchOptions, stop: Stop, goals: Sequence[float]
) -> list[CertifiedRadius]:
    """Every pair's radius by one bound, each worked on alone: its bits are those of any batch.

    ``goals``: a pair is dropped where its bound fails above them.
    """
    return [
        _search_one(pairs.select([index]), method, options, stop, goal)
        for index, goal in enumerate(goals)
    ]


def _search_one(
    pair: Pairs, method: Method, options: SearchOptions, stop: Stop, goal: float
) -> CertifiedRadius:
    if float(pair.lipschitz) == 0.0:  # the float32 error alone exceeds R'
        return CertifiedRadius(0.0, method, upper=0.0, steps=0, converged=True)
    image, allowance = (
        Image(pair.network, pair.inputs),
        Allowance(float(pair.allowance), pair.slope),
    )
    found = BallSearch(image, _SEARCHED[method], allowance, options, stop).search(goal)
    return CertifiedRadius(found.lower, method, found.upper, found.steps, found.finished)
