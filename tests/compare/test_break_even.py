"""Break-even budgets: interpolated in the logarithm of the queries."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reaas.certify import VoteBudget
from reaas.compare import CurvePoint, break_even_budget
from reaas.compare._break_even import break_even, envelope, hopeless_budget
from scipy.stats import beta

# The curve of system.md.
CURVE = [(22.0, 0.049), (55.0, 0.124), (110.0, 0.175), (330.0, 0.236), (1100.0, 0.280)]


def point(sigma: float, n: int, acr: float) -> CurvePoint:
    budget = VoteBudget(n)
    return CurvePoint(sigma, budget.n0, n, budget.votes, 100.0 * budget.votes, acr, 0.5)


@pytest.mark.parametrize(("queries", "acr"), CURVE)
def test_a_measured_point_is_met_exactly(queries: float, acr: float) -> None:
    assert break_even_budget(CURVE, acr) == pytest.approx(queries, rel=1e-12)


def test_half_way_in_acr_is_the_geometric_mean_of_the_budgets() -> None:
    assert break_even_budget(CURVE, (0.049 + 0.124) / 2) == pytest.approx(math.sqrt(22 * 55))


def test_beyond_the_last_point_there_is_none() -> None:
    assert break_even_budget(CURVE, 0.281) is None


def test_nothing_is_reached_at_the_first_point() -> None:
    assert break_even_budget(CURVE, 0.0) == 22.0


def test_a_dip_does_not_move_the_crossing_down() -> None:
    dip = [(10.0, 0.1), (20.0, 0.05), (40.0, 0.2)]
    assert break_even_budget(dip, 0.15) == pytest.approx(20.0)


@given(st.floats(0.049, 0.28), st.floats(0.049, 0.28))
def test_a_larger_acr_never_costs_less(one: float, other: float) -> None:
    low, high = (break_even_budget(CURVE, acr) for acr in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high


def test_the_envelope_takes_the_best_noise_level_at_each_budget() -> None:
    curve = [
        point(0.25, 20, 0.05),
        point(0.5, 20, 0.04),
        point(0.25, 100, 0.1),
        point(0.5, 100, 0.2),
    ]
    assert [(best.sigma, best.queries_per_testing_input) for best in envelope(curve)] == [
        (0.25, 22),
        (0.5, 110),
    ]


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
def test_the_hopeless_budget_is_the_largest_that_certifies_nothing(alpha: float) -> None:
    n = hopeless_budget(alpha).n
    assert beta.ppf(alpha, n, 1) <= 0.5 < beta.ppf(alpha, n + 1, 1)


def test_a_small_acr_lies_between_nothing_and_the_first_point() -> None:
    found = break_even("reaas/SC", 0.02, [point(0.25, 20, 0.05)], alpha=0.001)
    assert found.queries_per_testing_input is not None
    assert 10 < found.queries_per_testing_input < 22
    assert found.largest_budget == 22


def test_a_large_acr_says_how_far_was_looked() -> None:
    found = break_even("reaas/SC", 0.3, [point(0.25, 20, 0.05)], alpha=0.001)
    assert (found.queries_per_testing_input, found.largest_budget) == (None, 22)
