"""F2IPerturb: the largest radius in image space that keeps the feature inside its ball."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.bounds import Centre, crown_bound, ibp_bound, per_coordinate_floor
from reaas_bounds.bracket import Bracket
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.graph.network import Network
from reaas_bounds.query import (
    CertifiedRadius,
    Method,
    SearchOptions,
    check_query,
    rounded_down,
)
from reaas_bounds.rounding import float32_error_at

Stop = Callable[[], bool]

_BOUNDS: dict[Method, Callable[[Centre, Tensor], Tensor]] = {
    Method.IBP: ibp_bound,
    Method.CROWN: crown_bound,
}
# Neurons of all images that one bound evaluation works on: the larger, the longer a deadline has
# to wait (CROWN on 2^14 neurons takes about 2 s), the smaller, the more of the time of a small
# network goes to overhead.
_NEURONS = 2**14


def never() -> bool:
    """The default ``stop``: run to the end."""
    return False


@dataclass(frozen=True, eq=False)
class _Pairs:
    """(Image, feature radius) pairs with what their features may move.

    ``allowance`` [n] = R' less the float32 error of both features at r = 0; every unit of r takes
    ``slope`` more. ``lipschitz`` [n]: the radius that the constant alone certifies.
    """

    network: Network
    inputs: Tensor
    allowance: Tensor
    slope: float
    lipschitz: Tensor

    def allowed(self, radii: Tensor) -> Tensor:
        """How far the exact feature may move within ``radii`` [n]."""
        return self.allowance - self.slope * radii

    def select(self, pairs: Sequence[int]) -> _Pairs:
        """Some of the pairs."""
        kept = torch.tensor(pairs, dtype=torch.long)
        parts = (self.inputs[kept], self.allowance[kept], self.slope, self.lipschitz[kept])
        return _Pairs(self.network, *parts)


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

    AUTO is the largest of LIPSCHITZ (closed form), IBP and CROWN, each searched on the same grid
    as alone; a bound that fails at the Lipschitz radius already, or provably would, is dropped,
    since its own answer would be smaller.

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
    pairs = _prepare(network, constants, inputs, feature_radii)
    closed = [_closed_form(radius) for radius in pairs.lipschitz.tolist()]
    if method is Method.LIPSCHITZ:
        return closed
    answers: list[CertifiedRadius] = []
    for chunk in _chunks(pairs):
        known = closed[len(answers) : len(answers) + len(chunk.inputs)]
        if method is Method.AUTO:
            answers += _best_of_all(chunk, known, options, stop)
        else:
            answers += _search(chunk, method, options, stop, keep_failing=True)
    return answers


def _prepare(
    network: Network, constants: CertifiedConstants, inputs: Tensor, feature_radii: Tensor
) -> _Pairs:
    error = float32_error_at(network, inputs)  # [n]
    allowance = feature_radii - 2 * error
    slope = constants.float32_slope
    radii = [rounded_down(a / (constants.lipschitz + slope)) for a in allowance.tolist()]
    return _Pairs(network, inputs, allowance, slope, torch.tensor(radii, dtype=torch.float64))


def _chunks(pairs: _Pairs) -> list[_Pairs]:
    """Pairs in groups of about ``_NEURONS`` activations."""
    each = sum(math.prod(node.shape) for node in pairs.network.folded.nodes)
    size = max(1, _NEURONS // each)
    count = len(pairs.inputs)
    return [pairs.select(range(i, min(i + size, count))) for i in range(0, count, size)]


def _closed_form(radius: float) -> CertifiedRadius:
    return CertifiedRadius(radius, Method.LIPSCHITZ, upper=radius, steps=0, converged=True)


def _best_of_all(
    pairs: _Pairs, closed: list[CertifiedRadius], options: SearchOptions, stop: Stop
) -> list[CertifiedRadius]:
    """The largest radius of the closed form, IBP and CROWN for every pair."""
    best = list(closed)
    if stop():
        return [replace(answer, converged=False) for answer in best]
    floor = per_coordinate_floor(pairs.network, pairs.inputs, pairs.lipschitz)
    hopeful = (floor <= pairs.allowed(pairs.lipschitz)) & (pairs.lipschitz > 0)
    left = hopeful.nonzero().flatten().tolist()
    if not left:
        return best
    for method in (Method.IBP, Method.CROWN):
        found = _search(pairs.select(left), method, options, stop, keep_failing=False)
        for index, answer in zip(left, found, strict=True):
            best[index] = _combined(best[index], answer)
    return best


def _combined(a: CertifiedRadius, b: CertifiedRadius) -> CertifiedRadius:
    """The better answer, with the effort of both."""
    better = b if b.radius > a.radius else a
    return replace(better, steps=a.steps + b.steps, converged=a.converged and b.converged)


def _search(
    pairs: _Pairs, method: Method, options: SearchOptions, stop: Stop, *, keep_failing: bool
) -> list[CertifiedRadius]:
    """Bracket every pair's radius for one bound, starting at the Lipschitz radius.

    ``keep_failing``: go on below that radius, if the bound fails there.
    """
    brackets = [Bracket(guess, options) for guess in pairs.lipschitz.tolist()]
    centre = Centre.of(pairs.network, pairs.inputs)

    def due() -> list[int]:
        wanted = (b.open and b.guess > 0 and (keep_failing or b.upper > b.guess) for b in brackets)
        return [index for index, want in enumerate(wanted) if want]

    while (active := due()) and not stop():
        probes = torch.tensor([brackets[i].probe for i in active], dtype=torch.float64)
        part = pairs.select(active)
        bounds = _BOUNDS[method](centre.select(torch.tensor(active)), probes)
        certified = bounds <= part.allowed(probes)
        for index, probe, passed in zip(active, probes.tolist(), certified.tolist(), strict=True):
            brackets[index].record(probe, passed)
    waiting = set(due())
    return [
        _answer(bracket, method, finished=index not in waiting, keep_failing=keep_failing)
        for index, bracket in enumerate(brackets)
    ]


def _answer(
    bracket: Bracket, method: Method, *, finished: bool, keep_failing: bool
) -> CertifiedRadius:
    if bracket.guess == 0.0:  # the float32 error alone exceeds R': no radius can be certified
        return CertifiedRadius(0.0, method, upper=0.0, steps=0, converged=True)
    dropped = not keep_failing and bracket.upper <= bracket.guess
    return CertifiedRadius(
        radius=rounded_down(bracket.lower),
        method=method,
        upper=bracket.upper,
        steps=bracket.steps,
        converged=finished and (bracket.converged or dropped),
    )
