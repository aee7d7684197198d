"""ACR and the certified accuracy curve."""

from __future__ import annotations

import numpy as np
import pytest
from reaas.certify import (
    ABSTAIN,
    InvalidArgumentError,
    accuracy,
    average_certified_radius,
    certified_accuracy,
)

LABELS, RADII, TRUTH = [0, 1, ABSTAIN, 2], [0.5, 1.0, 0.0, 3.0], [0, 1, 2, 1]


def test_wrong_and_abstained_inputs_count_as_zero() -> None:
    assert accuracy(LABELS, TRUTH) == 0.5
    assert average_certified_radius(LABELS, RADII, TRUTH) == pytest.approx(1.5 / 4)


def test_certified_accuracy_includes_the_radius_itself() -> None:
    curve = certified_accuracy(LABELS, RADII, TRUTH, [0.0, 0.5, 0.51, 1.0, 1.01])
    assert curve.tolist() == [0.5, 0.5, 0.25, 0.25, 0.0]


def test_acr_is_the_area_under_the_curve() -> None:
    generator = np.random.default_rng(0)
    labels, truth = generator.integers(0, 3, 200), generator.integers(0, 3, 200)
    radii, grid = generator.exponential(size=200), np.linspace(0, 12, 24_001)
    area = np.trapezoid(certified_accuracy(labels, radii, truth, grid), grid)
    assert average_certified_radius(labels, radii, truth) == pytest.approx(area, rel=1e-2)


def test_metrics_refuse_what_does_not_match() -> None:
    with pytest.raises(InvalidArgumentError, match="truth: got shape"):
        accuracy([0, 1], [0])
    with pytest.raises(InvalidArgumentError, match="no input"):
        accuracy(np.zeros(0, int), np.zeros(0, int))
    with pytest.raises(InvalidArgumentError, match="radii"):
        average_certified_radius([0], [np.nan], [0])
