"""F2IPerturb: the largest radius in image space that keeps the feature inside its ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from reaas_bounds.bounds import per_coordinate_floor
from reaas_bounds.bounds.searched import CROWN, CROWN_JOINT, IBP, Image, Searched
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.coupled import certify_coupled_balls
from reaas_bounds.errors import CalledOffError
from reaas_bounds.graph.network import Network
from reaas_bounds.grid import Grid
from reaas_bounds.interruption import uninterrupted
from reaas_bounds.local import certify_locally
from reaas_bounds.normalisation import radii_before
from reaas_bounds.pairs import Pairs
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions, check_query
from reaas_bounds.radius_search import Allowance, RadiusSearch
from reaas_bounds.rounding import within_range

Stop = Callable[[], bool]

_SEARCHED: dict[Method, Searched] = {
    Method.IBP: IBP,
    Method.CROWN: CROWN,
    Method.CROWN_JOINT: CROWN_JOINT,
}


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
    answer is the largest r found for which this was checked; 0 if no r > 0 passes. It ends where
    a float32 operation might overflow (``within_range``).

    AUTO is the largest of LIPSCHITZ (closed form), LOCAL (fine level), CROWN and CROWN_JOINT; IBP's
    bound is never below CROWN's. A bound that fails just above the best so far is dropped: its own
    answer would not be larger. ``Optimistic`` spares most of these evaluations.

    Networks with products of activations (``Network.coupled``): by their constants around the
    image, whatever the method is; see ``certify_coupled_balls``.

    Features that are divided by their length: ``radii_before`` says what that is before.

    A larger R' never gives a smaller radius, unless a search is cut off; for CROWN, and with it
    AUTO, under the condition that ``RadiusSearch`` states.

    Args:
        network: the encoder at the client's input size.
        constants: ``certified_constants(network)``.
        inputs: images [n, C, h, w], float64 in [0,1] units.
        feature_radii: R' [n], float64, >= 0.
        method: the bound to use.
        options: search effort.
        stop: asked between bound evaluations; once True, the certified lower ends so far are
            returned with ``converged`` False. ``interruptible`` does the same inside of them.

    Raises:
        InvalidQueryError: shapes or values that make no sense; names the argument.
    """
    check_query(network, inputs, feature_radii)
    options = options or SearchOptions()
    with uninterrupted():
        if network.least_length is not None:
            feature_radii = radii_before(network, inputs, feature_radii)
            network, constants = network.before, constants.undivided
        if network.coupled:
            return certify_coupled_balls(network, inputs, feature_radii, options, stop)
        rooms = within_range(network, inputs)
        pairs = Pairs.of(network, constants, inputs, feature_radii)
        if method is not Method.LIPSCHITZ:
            pairs = pairs.condensed()
    if method is Method.LOCAL:
        answers = certify_locally(pairs, options, stop)
    else:
        singles = [pairs.select([index]) for index in range(len(inputs))]
        answers = [_certify(pair, method, options, stop) for pair in singles]
    return [
        replace(answer, radius=min(answer.radius, room))
        for answer, room in zip(answers, rooms, strict=True)
    ]


def _certify(pair: Pairs, method: Method, options: SearchOptions, stop: Stop) -> CertifiedRadius:
    """Each pair is worked on alone: its bits are those of any batch."""
    closed = float(pair.lipschitz)
    if closed == 0.0:  # the float32 error alone exceeds R'
        kind = Method.LIPSCHITZ if method is Method.AUTO else method
        return CertifiedRadius(0.0, kind, upper=0.0, steps=0, converged=True)
    known = CertifiedRadius(closed, Method.LIPSCHITZ, upper=closed, steps=0, converged=True)
    if method is Method.LIPSCHITZ:
        return known
    image = Image(pair.network, pair.inputs)
    if method is Method.AUTO:
        return _best_of_all(image, pair, known, options, stop)
    return _search(image, pair, method, options, stop, goal=0.0)


def _best_of_all(
    image: Image, pair: Pairs, known: CertifiedRadius, options: SearchOptions, stop: Stop
) -> CertifiedRadius:
    """The largest radius of all bounds, from cheap to costly."""
    if stop():
        return replace(known, converged=False)
    (local,) = certify_locally(pair, options, stop, fine=True)
    best = _combined(known, local)
    for method in (Method.CROWN, Method.CROWN_JOINT):
        if stop():
            return replace(best, converged=False)
        try:
            may_win = _may_win(image, pair, method, best.radius, options)
        except CalledOffError:
            return replace(best, converged=False)
        if may_win:
            found = _search(image, pair, method, options, stop, best.radius)
            best = _combined(best, found)
    return best


def _may_win(
    image: Image, pair: Pairs, method: Method, best: float, options: SearchOptions
) -> bool:
    """Whether the bound may certify the next radius of the grid above ``best``."""
    grid = Grid.within(options.relative_tolerance)
    radius = grid.radius(grid.above(best))
    allowed = pair.allowance - pair.slope * radius  # [1]
    if method is Method.CROWN_JOINT:
        return image.optimistic.joint(radius, float(allowed)) <= float(allowed)
    floor = per_coordinate_floor(image.network, image.x, allowed.new_tensor([radius]), allowed)
    if bool(floor > allowed):
        return False
    return image.optimistic.single(radius, float(allowed)) <= float(allowed)


def _combined(a: CertifiedRadius, b: CertifiedRadius) -> CertifiedRadius:
    """The better answer, with the effort of both."""
    better = b if b.radius > a.radius else a
    return replace(better, steps=a.steps + b.steps, converged=a.converged and b.converged)


def _search(
    image: Image, pair: Pairs, method: Method, options: SearchOptions, stop: Stop, goal: float
) -> CertifiedRadius:
    """The radius by one bound; nothing where it fails above ``goal``."""
    allowance = Allowance(float(pair.allowance), pair.slope)
    found = RadiusSearch(image, _SEARCHED[method], allowance, options, stop).search(goal)
    return CertifiedRadius(found.lower, method, found.upper, found.steps, found.finished)
