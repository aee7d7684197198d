"""What every method promises of its answers: larger targets, larger batches, other methods."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from reaas_bounds import (
    CertifiedConstants,
    MarginMethod,
    Method,
    Network,
    certified_constants,
    certify_ball,
    certify_margins,
    load_network,
)
from torch import Tensor

from tests.soundness.audit import Questions
from tests.soundness.generator import random_encoder

ENCODERS = [("residual", 3)]
Served = tuple[Network, CertifiedConstants]
ALL = [*Method, *MarginMethod]


@pytest.fixture(scope="module", params=ENCODERS, ids=str)
def served(request: pytest.FixtureRequest) -> Served:
    network = load_network(random_encoder(*request.param))
    return network, certified_constants(network)


def asked(served: Served, images: int, scales: tuple[float, ...] = (0.05, 0.6)) -> Questions:
    return Questions.drawn(served[0], served[1].lipschitz, images, 7, scales)


def answers(served: Served, question: Questions, method: Method | MarginMethod) -> list[object]:
    """All that the engine says about ``question``."""
    if isinstance(method, Method):
        return [*certify_ball(*served, question.x, question.feature_radii, method)]
    return [*certify_margins(*served, question.x, question.normals, question.offsets, method)]


def part(question: Questions, chosen: Tensor) -> Questions:
    fields = (question.x, question.feature_radii, question.normals, question.offsets)
    return Questions(*(values[chosen] for values in fields))


@pytest.mark.parametrize("method", ALL, ids=str)
def test_no_answer_depends_on_its_batch(served: Served, method: Method | MarginMethod) -> None:
    question = asked(served, 2)
    together = answers(served, question, method)
    for piece in ([3, 0, 2], [1]):
        alone = answers(served, part(question, torch.tensor(piece)), method)
        assert alone == [together[index] for index in piece]


@pytest.mark.parametrize("method", ALL, ids=str)
def test_a_larger_target_never_gives_a_smaller_radius(
    served: Served, method: Method | MarginMethod
) -> None:
    steps = [1.0, 1.0001, 1.003, 1.1, 3.0]  # less than any tolerance, and more
    growth = torch.tensor(steps, dtype=torch.float64).cumprod(0)
    first = part(asked(served, 1), torch.zeros(len(growth), dtype=torch.long))
    grown = Questions(
        first.x,
        first.feature_radii * growth,
        first.normals,
        first.offsets * growth[:, None],
    )
    radii = [answer.radius for answer in answers(served, grown, method)]  # type: ignore[attr-defined]
    assert all(small <= large for small, large in itertools.pairwise(radii))
    assert radii[-1] > 0


def test_auto_is_never_below_a_single_method(served: Served) -> None:
    question = asked(served, 1)
    for best, *single in ([*Method], [*MarginMethod]):
        auto = _radii(answers(served, question, best))
        for method in single:
            assert (auto >= _radii(answers(served, question, method))).all(), method


def _radii(found: list[object]) -> np.ndarray:
    return np.array([answer.radius for answer in found])  # type: ignore[attr-defined]
