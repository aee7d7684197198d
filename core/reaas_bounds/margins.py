"""Margins: the largest radius in image space that keeps a feature on one side of hyperplanes."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reaas_bounds.bounds.envelope import Local, quadratic_envelope
from reaas_bounds.bounds.multipliers import search_multipliers
from reaas_bounds.bounds.row_constant import ROUNDING, row_constants
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.graph.network import Network
from reaas_bounds.margin_query import (
    CertifiedMargin,
    MarginMethod,
    MarginOptions,
    check_margins,
)
from reaas_bounds.query import rounded_down
from reaas_bounds.rounding import float32_error_at
from reaas_bounds.search import Stop, never

# The envelope is built for radii 2^(j / LADDER), whatever the margins are: 26% apart, which costs
# less than 1% of a radius (measured), since near its best it depends little on what it is for.
LADDER = 3
# Margins in units of ||a||, and radii, beyond this are cut off: squares of them must not overflow.
HUGE = 1e30


def certify_margins(
    network: Network,
    constants: CertifiedConstants,
    inputs: Tensor,
    normals: Tensor,
    offsets: Tensor,
    method: MarginMethod = MarginMethod.AUTO,
    options: MarginOptions | None = None,
    stop: Stop = never,
) -> list[CertifiedMargin]:
    """Certified radii within which ``a_i . (z' - z) > -m_i`` for all rows; deterministic.

    z and z' are the float32 features of x and x'. Theorem: with ``E(r) >= max -a . (f(x + d) -
    f(x))`` over ``||d||_2 <= r``, e(x) a bound of the float32 error of the feature of x, and slope
    its growth, ``E(r) + ||a|| (2 e(x) + slope r) < m`` implies the row. E is the row's constant
    times r (LIPSCHITZ) or its quadratic envelope (ENVELOPE): r is a closed form in both.

    Only the row that limits the radius is worked on, until it stays the same: the answer is that
    of all rows. Each image is worked on alone, so its answer does not depend on the others. Larger
    margins never give a smaller radius with LIPSCHITZ, nor with AUTO unless it is cut off.

    Args:
        network: the encoder at the client's input size.
        constants: ``certified_constants(network)``.
        inputs: images [n, C, h, w], float64 in [0,1] units.
        normals: a [n, m, d], float64; a row of zeros with a positive margin limits nothing.
        offsets: m [n, m], float64; a row that is not positive gives radius 0.
        method: the bound to use.
        options: search effort.
        stop: asked between envelopes; once True, what is certified so far is returned with
            ``converged`` False.

    Raises:
        InvalidQueryError: shapes or values that make no sense; names the argument.
    """
    check_margins(network, inputs, normals, offsets)
    options = options or MarginOptions()
    answers = []
    for x, rows, margins in zip(inputs, normals, offsets, strict=True):
        question = _Question.of(network, constants, x[None], rows, margins)
        answers.append(_answer(question, method, options, stop))
    return answers


@dataclass(frozen=True, eq=False)
class _Question:
    """One image with rows ``c = -a / ||a||`` [m, d] and margins in the same unit.

    ``margins`` [m]: what is left of them after the float32 error of both features at r = 0.
    """

    network: Network
    constants: CertifiedConstants
    x: Tensor
    rows: Tensor
    margins: list[float]
    row_constants: Tensor

    @classmethod
    def of(
        cls,
        network: Network,
        constants: CertifiedConstants,
        x: Tensor,
        normals: Tensor,
        offsets: Tensor,
    ) -> _Question:
        largest = normals.abs().amax(1, keepdim=True)  # [m, 1]
        scaled = normals / torch.where(largest > 0, largest, 1.0)
        sizes = scaled.norm(dim=1, keepdim=True).clamp_min(1.0)  # a row of zeros stays one
        rows = -scaled / sizes
        # Rounding of the division, of the norm and, in `margins`, of the subtraction.
        units = (offsets / sizes[:, 0] / largest[:, 0].clamp_min(1 / HUGE)).clamp_max(HUGE)
        error = 2 * float(float32_error_at(network, x))
        margins = [
            (unit - error) - 1e-12 * (abs(unit) + error) if size > 0 else _unlimited(unit)
            for unit, size in zip(units.tolist(), largest[:, 0].tolist(), strict=True)
        ]
        known = row_constants(network, rows)
        return cls(network, constants, x, rows, margins, known)

    @cached_property
    def local(self) -> Local:
        """The network at the image."""
        return Local.of(self.network, self.x)

    @cached_property
    def values_float32(self) -> list[Tensor]:
        """Values of the nodes at the image, for the search."""
        return [value.float() for value in self.local.values]

    def constant_radius(self, row: int) -> float:
        """What the constant of the row alone certifies."""
        if math.isinf(margin := self.margins[row]):
            return math.inf
        constant = min(float(self.row_constants[row]), self.constants.lipschitz)
        slope = (constant + self.constants.float32_slope) * (1 + ROUNDING)
        return max(margin, 0.0) / slope if slope > 0 else math.inf

    def envelope_radius(self, row: int, target: float, steps: int) -> float:
        """What the envelope that is built for radius ``target`` certifies."""
        local, direction = self.local, self.rows[row : row + 1]
        chosen = search_multipliers(
            self.network.folded_float32,
            self.values_float32,
            direction.float(),
            local.reach,
            target,
            steps,
        )
        envelope = quadratic_envelope(local, direction, chosen)
        return envelope.with_slope(self.constants.float32_slope).radius(self.margins[row])


def _unlimited(offset: float) -> float:
    return math.inf if offset > 0 else 0.0


def _answer(
    question: _Question, method: MarginMethod, options: MarginOptions, stop: Stop
) -> CertifiedMargin:
    """Work on the row that limits the radius until it has been worked on."""
    constant = [question.constant_radius(row) for row in range(len(question.margins))]
    radii, found = list(constant), [MarginMethod.LIPSCHITZ] * len(constant)
    if method is MarginMethod.ENVELOPE:
        radii = [radius if math.isinf(radius) else 0.0 for radius in constant]
        found = [MarginMethod.ENVELOPE] * len(constant)
    left = {row for row, radius in enumerate(constant) if 0 < radius < HUGE}
    spent, finished = 0, True
    while method is not MarginMethod.LIPSCHITZ and finished:
        row = _smallest(radii)
        if row not in left:
            break
        left.remove(row)
        budget = options.max_envelopes - spent
        climb = _climb(question, row, constant[row], options.steps, budget, stop)
        spent, finished = spent + climb.envelopes, climb.finished
        if climb.radius > radii[row]:
            radii[row], found[row] = climb.radius, MarginMethod.ENVELOPE
    row = _smallest(radii)
    return CertifiedMargin(rounded_down(radii[row]), found[row], row, spent, finished)


def _smallest(radii: list[float]) -> int:
    return min(range(len(radii)), key=radii.__getitem__)


@dataclass(frozen=True)
class _Climb:
    radius: float
    envelopes: int
    finished: bool


def _climb(
    question: _Question,
    row: int,
    start: float,
    steps: int,
    budget: int,
    stop: Stop,
) -> _Climb:
    """Envelopes on the ladder above ``start``, up to the first rung that they do not reach.

    An envelope's radius counts only up to the next rung: with that, a larger margin can only get
    further, rung by rung, although the envelopes themselves are not nested.
    """
    best = 0.0
    first = math.floor(math.log2(start) * LADDER) + 1
    for spent, rung in enumerate(itertools.count(first)):
        if spent >= budget or stop():
            return _Climb(best, spent, finished=False)
        target, above = 2.0 ** (rung / LADDER), 2.0 ** ((rung + 1) / LADDER)
        radius = question.envelope_radius(row, target, steps)
        best = max(best, min(radius, above))
        if radius < target:
            return _Climb(best, spent + 1, finished=True)
    raise AssertionError("the ladder has no end")
