"""Smoothing statistics: the published numbers, the budgets, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reaas.certify import (
    ABSTAIN,
    CURVE_BUDGETS,
    InvalidArgumentError,
    SmoothingConfig,
    VoteBudget,
    certify_budgets,
    certify_from_counts,
    certify_from_votes,
    lower_confidence_bound,
    radius_from_votes,
)
from scipy.stats import binom


@pytest.mark.parametrize(
    ("successes", "probability", "radius"),
    [
        (100_000, 0.99993092, 3.811457),
        (99_000, 0.98898934, 2.290000),
        (90_000, 0.89703650, 1.264845),
        (60_000, 0.59520105, 0.240945),
        (50_489, 0.49999895, 0.0),
    ],
)
def test_numbers_of_cohen_et_al_at_100000_votes(
    successes: int, probability: float, radius: float
) -> None:
    bound = lower_confidence_bound(successes, 100_000, 0.001)
    assert bound == pytest.approx(probability, abs=5e-9)
    assert radius_from_votes(successes, 100_000, 0.001, 1.0) == pytest.approx(radius, abs=5e-7)


def test_ceiling_at_1000_votes_scales_with_sigma() -> None:
    assert radius_from_votes(1000, 1000, 0.001, 1.0) == pytest.approx(2.463263, abs=5e-7)
    assert radius_from_votes(1000, 1000, 0.001, 0.25) == pytest.approx(2.463263 / 4, abs=5e-7)


def test_small_counts() -> None:
    assert lower_confidence_bound([0, 10], 10, 0.001).tolist() == pytest.approx([0, 0.001**0.1])
    assert radius_from_votes(10, 10, 0.001, 1.0) > 0
    assert radius_from_votes(9, 9, 0.001, 1.0) == 0  # alpha^(1/9) < 1/2: too few to say anything


@pytest.mark.parametrize("p", [0.03, 0.5, 0.77, 0.999])
@pytest.mark.parametrize("n", [7, 50, 400])
def test_the_lower_limit_covers_a_known_probability(p: float, n: int) -> None:
    """Exact, no sampling: P(limit > p) = sum of the binomial weights of such counts <= alpha."""
    counts = np.arange(n + 1)
    for alpha in (0.05, 0.001):
        misses = lower_confidence_bound(counts, n, alpha) > p
        assert binom.pmf(counts, n, p)[misses].sum() <= alpha * (1 + 1e-9)


def test_selection_chooses_and_fresh_votes_decide() -> None:
    certificates = certify_from_counts(
        [[6, 4], [4, 6], [9, 1]], [[990, 10], [990, 10], [510, 490]], alpha=0.001, sigma=0.5
    )
    assert certificates.labels.tolist() == [0, ABSTAIN, ABSTAIN]
    assert certificates.abstained.tolist() == [False, True, True]
    assert certificates.radii[0] == pytest.approx(radius_from_votes(990, 1000, 0.001, 0.5))
    assert certificates.radii[1:].tolist() == [0, 0]
    assert certificates.failure_probability == 0.001


def test_votes_are_counted_input_by_input() -> None:
    generator = np.random.default_rng(0)
    votes = generator.choice(3, p=[0.05, 0.9, 0.05], size=(5, 1100))
    got = certify_from_votes(votes, classes=3, n0=100, alpha=0.001, sigma=0.25)
    for row, label, radius in zip(votes, got.labels, got.radii, strict=True):
        assert label == 1
        hits = int((row[100:] == 1).sum())
        assert radius == pytest.approx(float(radius_from_votes(hits, 1000, 0.001, 0.25)))


def test_a_budget_uses_the_first_votes_only() -> None:
    generator = np.random.default_rng(1)
    votes = generator.choice(4, p=[0.02, 0.94, 0.02, 0.02], size=(6, 1100))
    curve = certify_budgets(votes, classes=4, n0=100, alpha=0.001, sigma=0.5)
    assert tuple(curve) == CURVE_BUDGETS
    assert [budget.votes for budget in curve] == [22, 55, 110, 330, 1100]
    whole = certify_from_votes(votes, classes=4, n0=100, alpha=0.001, sigma=0.5)
    np.testing.assert_array_equal(curve[VoteBudget(1000)].radii, whole.radii)
    spoiled = votes.copy()
    spoiled[:, 10:100] = 0
    spoiled[:, 200:] = 0
    again = certify_budgets(
        spoiled, classes=4, n0=100, alpha=0.001, sigma=0.5, budgets=[VoteBudget(100)]
    )
    np.testing.assert_array_equal(again[VoteBudget(100)].radii, curve[VoteBudget(100)].radii)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"votes": np.zeros((2, 5))}, "votes: got float64"),
        ({"votes": np.full((2, 5), 3)}, r"votes: got 3\.\.3, expected 0\.\.2"),
        ({"votes": np.full((2, 5), -1)}, r"-1\.\.-1"),
        ({"n0": 0}, "n0: got 0"),
        ({"n0": 5}, r"n0: got 5, expected 1\.\.4"),
        ({"alpha": 0.0}, "alpha: got 0.0"),
        ({"sigma": -1.0}, "sigma: got -1.0"),
        ({"sigma": np.nan}, "sigma: got nan"),
    ],
)
def test_votes_that_can_not_be_used_are_named(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "votes": np.zeros((2, 5), int),
        "classes": 3,
        "n0": 2,
        "alpha": 0.001,
        "sigma": 0.5,
    }
    with pytest.raises(InvalidArgumentError, match=message):
        certify_from_votes(**(arguments | changes))


def test_other_arguments_that_can_not_be_used_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match=r"0\.\.10"):
        lower_confidence_bound(11, 10, 0.001)
    with pytest.raises(InvalidArgumentError, match="equally many"):
        certify_from_counts([[1, 0], [1, 0]], [[5, 0], [4, 0]], alpha=0.1, sigma=1)
    with pytest.raises(InvalidArgumentError, match="estimation: got shape"):
        certify_from_counts([[1, 0]], [[5, 0, 0]], alpha=0.1, sigma=1)
    with pytest.raises(InvalidArgumentError, match=r"100 \+ 1000 votes asked, 2 \+ 3 given"):
        certify_budgets(
            np.zeros((1, 5), int), classes=2, n0=2, alpha=0.1, sigma=1, budgets=[VoteBudget(1000)]
        )
    for field, value in (("n", 0), ("n0", 0), ("alpha", 2.0), ("sigma", 0.0)):
        with pytest.raises(InvalidArgumentError, match=field):
            SmoothingConfig(**({"sigma": 0.5} | {field: value}))  # type: ignore[arg-type]
