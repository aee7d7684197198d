"""Margins: the largest radius in image space that keeps a feature on one side of hyperplanes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.bounds.searched import Searched
from reaas_bounds.bounds.searched_rows import Shares, crown_shares, ibp_shares
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.coupled import certify_coupled_margins
from reaas_bounds.errors import CalledOffError
from reaas_bounds.graph.network import Network
from reaas_bounds.grid import Grid
from reaas_bounds.interruption import uninterrupted
from reaas_bounds.margin_limits import Limits
from reaas_bounds.margin_query import CertifiedMargin, MarginMethod, MarginOptions, MarginSets
from reaas_bounds.margin_set import MarginSet, sets_around
from reaas_bounds.normalisation import COPIES, margins_before
from reaas_bounds.query import Method, rounded_down
from reaas_bounds.radius_search import Allowance, RadiusSearch
from reaas_bounds.rounding import within_range
from reaas_bounds.search import Stop, certify_ball, never

# The envelope is built for radii 2^(j / LADDER), whatever the margins are: 26% apart, which costs
# less than 1% of a radius (measured), since near its best it depends little on what it is for.
LADDER = 3

# Bounds of rows that have no closed form in the radius.
_SEARCHED: dict[MarginMethod, Callable[[Shares], Searched]] = {
    MarginMethod.CROWN: crown_shares,
    MarginMethod.IBP: ibp_shares,
}


def certify_margins(
    network: Network,
    constants: CertifiedConstants,
    inputs: Tensor,
    normals: Tensor,
    offsets: Tensor,
    method: MarginMethod = MarginMethod.AUTO,
    options: MarginOptions | None = None,
    stop: Stop = never,
    *,
    valid_within: Tensor | None = None,
) -> list[CertifiedMargin]:
    """Certified radii within which ``a_i . (z' - z) > -m_i`` for all rows; deterministic.

    z and z' are the float32 features of x and x'. Theorem: with ``E(r) >= max -a . (f(x + d) -
    f(x))`` over ``||d||_2 <= r``, e(x) a bound of the float32 error of ``a . feature`` at x, and
    slope its growth, ``E(r) + 2 e(x) + ||a|| slope r < m`` implies the row. E is the row's
    constant times r (LIPSCHITZ) or its quadratic envelope (ENVELOPE), and r a closed form in both;
    or the row's bound by CROWN or IBP, of which the largest radius of a grid is searched.

    AUTO is the largest of all, set by set: CROWN, which is never above IBP's bound, takes seconds,
    and is tried where ``Optimistic`` does not rule it out.

    Several sets of rows: each holds the smaller of its rows' radius and of the radius of its ball
    ``||z' - z||_2 <= rho`` (as ``certify_ball`` by the constant, and by LOCAL for AUTO and
    ENVELOPE), and the answer is the best set's. The sets are worked on in the order of what their
    constants say, and one that provably cannot win is left: the answer is the largest of what each
    of them would get alone.

    In a set only what limits the radius is worked on, until it stays the same: the answer is that
    of all rows. Each image is worked on alone, so its answer does not depend on the others. Larger
    margins never give a smaller radius, unless a search is cut off; for CROWN, and with it AUTO,
    under the condition that ``RadiusSearch`` states.

    Networks with products of activations: as ``certify_ball``.

    Features that are divided by their length: ``margins_before`` says what that is before.

    Args:
        network: the encoder at the client's input size.
        constants: ``certified_constants(network)``.
        inputs: images [n, C, h, w], float64 in [0,1] units.
        normals: a [n, m, d] or, for s sets, [n, s, m, d], float64; a row of zeros with a positive
            margin limits nothing.
        offsets: m [n, m] or [n, s, m], float64; a row that is not positive gives its set radius 0.
        method: the bound to use.
        options: search effort.
        stop: asked between envelopes; once True, what is certified so far is returned with
            ``converged`` False.
        valid_within: rho [n, s], float64, above 0; infinity, and None: everywhere.

    Raises:
        InvalidQueryError: shapes or values that make no sense; names the argument.
    """
    margins = MarginSets.of(network, inputs, normals, offsets, valid_within)
    options, copies = options or MarginOptions(), 1
    with uninterrupted():
        if network.least_length is not None:
            margins, copies = margins_before(network, inputs, margins), COPIES
            network, constants = network.before, constants.undivided
        if network.coupled:
            found = certify_coupled_margins(network, inputs, margins, options, stop)
            return [replace(answer, margin_set=answer.margin_set // copies) for answer in found]
        around = sets_around(network, constants, inputs, margins)
        rooms = within_range(network, inputs)
    answers = [_Search(method, options, stop).best_of(sets) for sets in around]
    return [
        replace(answer, margin_set=answer.margin_set // copies, radius=min(answer.radius, room))
        for answer, room in zip(answers, rooms, strict=True)
    ]


@dataclass
class _Search:
    """The search of one image, and the effort that it took."""

    method: MarginMethod
    options: MarginOptions
    stop: Stop
    steps: int = 0
    finished: bool = True

    def best_of(self, sets: list[MarginSet]) -> CertifiedMargin:
        """The best set's answer."""
        with uninterrupted():
            found = [Limits(margins, self.method) for margins in sets]
        try:
            self._improve(found)
        except CalledOffError:  # what is certified so far stands
            self.finished = False
        radii = [limits.radius for limits in found]
        chosen = radii.index(max(radii))
        limits = found[chosen]
        item = limits.limiting
        row = item if item != limits.ball_item else None
        radius, method = rounded_down(limits.radius), limits.methods[item]
        return CertifiedMargin(radius, method, chosen, row, self.steps, self.finished)

    def _improve(self, found: list[Limits]) -> None:
        """Work on the sets, the most hopeful first, while they may win."""
        best = max(limits.radius for limits in found)
        for limits in sorted(found, key=lambda limits: -limits.hope):
            if self.method in (MarginMethod.AUTO, MarginMethod.ENVELOPE):
                self._work_on(limits, best)
            elif self.method in _SEARCHED:
                self._search(limits, self.method, best)
            best = max(best, limits.radius)
        for limits in found if self.method is MarginMethod.AUTO else []:
            if self._crown_may_win(limits, best):
                self._search(limits, MarginMethod.CROWN, best)
                self._work_on(limits, best)  # on the ball, if that is what limits it now
            best = max(best, limits.radius)

    def _work_on(self, limits: Limits, best: float) -> None:
        """What limits the set, row or ball, until it has been worked on or has no chance."""
        while self.finished and limits.ceiling > best:
            item = limits.limiting
            if item not in limits.left or self._is_lost(limits, item, best):
                break
            if item == limits.ball_item:
                self._widen(limits)
            else:
                radius = self._climb(limits.margins, item, limits.ceiling)
                limits.improve(item, radius, MarginMethod.ENVELOPE)

    def _is_lost(self, limits: Limits, item: int, best: float) -> bool:
        """Whether a set that is behind ``best`` provably stays there."""
        if limits.radius >= best:
            return False
        if item == limits.ball_item:
            return limits.margins.ball_is_lost(best)
        return limits.margins.is_lost(item, best)

    def _widen(self, limits: Limits) -> None:
        """The local bound of the ball."""
        point, search = limits.margins.point, self.options.search
        network, image = point.asked
        within = torch.tensor([limits.margins.within], dtype=torch.float64)
        (found,) = certify_ball(
            network, point.constants, image, within, Method.LOCAL, search, self.stop
        )
        self.steps += found.steps
        self.finished = self.finished and found.converged
        limits.improve(limits.ball_item, found.radius, Method.LOCAL)

    def _climb(self, margins: MarginSet, row: int, enough: float) -> float:
        """Envelopes on the ladder above the constant's radius, up to the first rung not reached.

        An envelope's radius counts only up to the next rung: with that, a larger margin can only
        get further, rung by rung, although the envelopes themselves are not nested. Beyond
        ``enough`` something else limits the set.
        """
        best, first = 0.0, math.floor(math.log2(margins.constant_radii[row]) * LADDER) + 1
        for rung in itertools.count(first):
            if self.steps >= self.options.max_envelopes or self.stop():
                self.finished = False
                break
            target, above = 2.0 ** (rung / LADDER), 2.0 ** ((rung + 1) / LADDER)
            try:
                radius = margins.envelope_radius(row, target, self.options.steps)
            except CalledOffError:
                self.finished = False
                break
            self.steps += 1
            best = max(best, min(radius, above))
            if radius < target or best >= enough:
                break
        return best

    def _crown_may_win(self, limits: Limits, best: float) -> bool:
        """Whether CROWN may certify the next radius of the grid above ``best``."""
        if not (self.finished and limits.rows and limits.ceiling_of_rows > best > 0):
            return False
        if limits.ball < best and self._is_lost(limits, limits.ball_item, best):
            return False
        grid = Grid.within(self.options.search.relative_tolerance)
        return limits.margins.may_hold(grid.radius(grid.above(best)))

    def _search(self, limits: Limits, method: MarginMethod, best: float) -> None:
        """One search of all rows together, unless something else keeps the set below ``best``.

        It is the set's own search, whatever ``best`` is: CROWN of a few neurons can pass above a
        radius at which it fails.
        """
        margins, enough = limits.margins, limits.ceiling_of_rows
        if enough <= best or not limits.rows:  # a row is lost, the ball is small, or all is free
            return
        searched = _SEARCHED[method](margins.shares)
        options, one = self.options.search, Allowance(1.0, 0.0)
        search = RadiusSearch(margins.point.image, searched, one, options, self.stop)
        found = search.search(0.0, enough)
        for row in limits.rows:
            limits.improve(row, found.lower, method)
        self.steps += found.steps
        self.finished = self.finished and found.finished
