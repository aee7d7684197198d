"""Break-even budget: how many queries SEaaS needs for the ACR that REaaS has with two."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reaas.certify import VoteBudget


@dataclass(frozen=True)
class CurvePoint:
    """ACR of SEaaS with one noise level at one budget, from the first votes of one set."""

    sigma: float
    n0: int
    n: int
    queries_per_testing_input: int
    bytes_per_testing_input: float
    acr: float
    accuracy: float


@dataclass(frozen=True)
class BreakEven:
    """Budget at which SEaaS reaches the ACR of one REaaS row."""

    row: str
    acr: float
    # None: not reached at `largest_budget`, the last budget measured.
    queries_per_testing_input: float | None
    largest_budget: int


def hopeless_budget(alpha: float) -> VoteBudget:
    """The largest budget at which smoothing certifies nothing, whatever the votes.

    With n votes, all of one class, the Clopper-Pearson limit is alpha^(1/n); a radius needs more
    than 1/2. So the ACR of this budget is 0 without measuring it.
    """
    return VoteBudget(math.floor(math.log(alpha) / math.log(0.5)))


def envelope(curve: Iterable[CurvePoint]) -> list[CurvePoint]:
    """The point of the best noise level at each budget, sorted by budget."""
    best: dict[int, CurvePoint] = {}
    for point in curve:
        budget = point.queries_per_testing_input
        if budget not in best or point.acr > best[budget].acr:
            best[budget] = point
    return [best[budget] for budget in sorted(best)]


def break_even_budget(points: Sequence[tuple[float, float]], acr: float) -> float | None:
    """Queries at which the curve `points` of (queries, ACR) first reaches `acr`.

    Interpolated, linear in ACR and in the logarithm of the queries, from the best point before;
    None where no point reaches it. `points` are sorted by queries.
    """
    below: tuple[float, float] | None = None
    for queries, reached in points:
        if reached >= acr:
            return queries if below is None else _crossing(below, (queries, reached), acr)
        if below is None or reached >= below[1]:
            below = (queries, reached)
    return None


def _crossing(below: tuple[float, float], above: tuple[float, float], acr: float) -> float:
    share = (acr - below[1]) / (above[1] - below[1])
    return math.exp((1.0 - share) * math.log(below[0]) + share * math.log(above[0]))


def break_even(row: str, acr: float, curve: Sequence[CurvePoint], alpha: float) -> BreakEven:
    """Break-even budget of the row `row` against the envelope of `curve`."""
    measured = [(float(p.queries_per_testing_input), p.acr) for p in envelope(curve)]
    points = [(float(hopeless_budget(alpha).votes), 0.0), *measured]
    return BreakEven(row, acr, break_even_budget(points, acr), int(points[-1][0]))
