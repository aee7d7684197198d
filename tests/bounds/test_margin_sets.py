"""Several sets of margins, each within a feature ball: the best of them, and never more."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reaas_bounds import (
    CertifiedConstants,
    CertifiedMargin,
    InvalidQueryError,
    MarginMethod,
    MarginOptions,
    Method,
    Network,
    certified_constants,
    certify_ball,
    certify_margins,
    load_network,
)
from torch import Tensor

from tests.bounds.attack import Effort, Served, attack_balls, attack_margins
from tests.bounds.encoders import ENCODERS

SETS, ROWS = 4, 3
QUICK = MarginOptions(steps=1)
Sets = tuple[Tensor, Tensor, Tensor, Tensor]
Loaded = tuple[Network, CertifiedConstants]


def sets(network: Network, images: int) -> Sets:
    """Inputs [n, C, h, w], normals [n, s, m, d], offsets [n, s, m], within [n, s], random."""
    random = np.random.default_rng(8)
    x = random.uniform(size=(images, *network.input_shape)).astype(np.float32).astype(np.float64)
    shape = (images, SETS, ROWS)
    offsets, within = random.uniform(0.3, 2, shape), random.uniform(0.1, 1.5, shape[:2])
    within[:, 1] = np.inf
    parts = (x, random.normal(size=(*shape, network.feature_dim)), offsets, within)
    inputs, normals, limits, rho = (torch.from_numpy(part) for part in parts)
    return inputs, normals, limits, rho


def certify(
    loaded: Loaded, question: Sets, method: MarginMethod = MarginMethod.AUTO
) -> list[CertifiedMargin]:
    x, normals, offsets, within = question
    return certify_margins(*loaded, x, normals, offsets, method, QUICK, valid_within=within)


@pytest.fixture(scope="module", params=["strided", "residual", "dense"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    network = load_network(ENCODERS[request.param](7))
    return network, certified_constants(network)


@pytest.mark.parametrize("method", MarginMethod)
def test_the_answer_is_the_best_sets(loaded: Loaded, method: MarginMethod) -> None:
    x, normals, offsets, within = question = sets(loaded[0], 3)
    together = certify(loaded, question, method)
    alone = [
        certify(loaded, (x, normals[:, [k]], offsets[:, [k]], within[:, [k]]), method)
        for k in range(SETS)
    ]
    for index, answer in enumerate(together):
        radii = [single[index].radius for single in alone]
        assert answer.radius == max(radii) > 0
        assert answer.margin_set == radii.index(max(radii))
        winner = alone[answer.margin_set][index]
        assert (answer.row, answer.method) == (winner.row, winner.method)


def test_a_ball_that_limits_certifies_what_the_ball_alone_does(loaded: Loaded) -> None:
    x, normals, offsets, _ = sets(loaded[0], 2)
    for scale in (1e-2, 0.3, 10.0):
        within = torch.full((2, SETS), scale, dtype=torch.float64)
        ball = certify_ball(*loaded, x, within[:, 0], Method.LIPSCHITZ)
        local = certify_ball(*loaded, x, within[:, 0], Method.LOCAL)
        free = certify(loaded, (x, 0 * normals, offsets, within))
        for answer, known, near in zip(free, ball, local, strict=True):
            assert answer.limited_by_ball
            better = max(known, near, key=lambda found: found.radius)
            assert math.isclose(answer.radius, better.radius, rel_tol=1e-9)
            assert answer.radius <= better.radius
            assert answer.method in (known.method, near.method)
        held = certify(loaded, (x, normals, offsets, within), MarginMethod.LIPSCHITZ)
        rows = certify_margins(*loaded, x, normals, offsets, MarginMethod.LIPSCHITZ)
        for answer, known, unheld in zip(held, ball, rows, strict=True):
            assert answer.radius <= min(known.radius, unheld.radius)
            if answer.limited_by_ball:
                assert math.isclose(answer.radius, known.radius, rel_tol=1e-9)


@pytest.mark.parametrize("name", ENCODERS)
def test_no_attack_leaves_the_winning_sets_ball_or_rows(name: str) -> None:
    onnx = ENCODERS[name](1)
    network = load_network(onnx)
    x, normals, offsets, within = question = sets(network, 6)
    within[::2] = 0.1
    answers = certify((network, certified_constants(network)), question)
    radii = torch.tensor([answer.radius for answer in answers], dtype=torch.float64)
    won = [answer.margin_set for answer in answers]
    each = torch.arange(len(won))
    served, effort = Served(onnx), Effort(steps=20)
    rows = attack_margins(network, served, x, normals[each, won], offsets[each, won], radii, effort)
    balls = attack_balls(network, served, x, within[each, won], radii, effort)
    assert rows.attacked.any()
    assert balls.attacked.sum() >= 4  # of tiny balls float32 images may lie outside
    assert not rows.beaten.any()
    assert not balls.beaten.any()
    assert len({answer.limited_by_ball for answer in answers}) == 2


def test_larger_margins_and_balls_never_give_a_smaller_radius(loaded: Loaded) -> None:
    x, normals, offsets, within = (part[:1] for part in sets(loaded[0], 1))
    growth = torch.logspace(-1, 1, 15, dtype=torch.float64)
    answers = certify_margins(
        *loaded,
        x.expand(15, -1, -1, -1),
        normals.expand(15, -1, -1, -1),
        growth[:, None, None] * offsets,
        options=QUICK,
        valid_within=0.2 * growth[:, None].sqrt() * within.clamp_max(3.0),
    )
    radii = [answer.radius for answer in answers]
    assert radii == sorted(radii)
    assert {answer.limited_by_ball for answer in answers} == {False, True}


def test_the_answer_does_not_depend_on_the_batch(loaded: Loaded) -> None:
    question = sets(loaded[0], 3)
    together = certify(loaded, question)
    for index, answer in enumerate(together):
        x, normals, offsets, within = (part[index : index + 1].clone() for part in question)
        assert certify(loaded, (x, normals, offsets, within)) == [answer]


def test_a_set_that_cannot_win_takes_no_work(loaded: Loaded) -> None:
    x, normals, offsets, within = (part[:1] for part in sets(loaded[0], 1))
    one = certify(loaded, (x, normals[:, :1], offsets[:, :1], within[:, :1] * torch.inf))
    small = torch.tensor([[torch.inf, 1e-3, 1e-3, 1e-3]], dtype=torch.float64)
    first = normals[:, :1].expand(-1, SETS, -1, -1), offsets[:, :1].expand(-1, SETS, -1)
    many = certify(loaded, (x, *first, small))
    assert many == one


def test_a_stopped_search_returns_what_the_constants_say(loaded: Loaded) -> None:
    x, normals, offsets, within = sets(loaded[0], 2)
    floor = certify(loaded, (x, normals, offsets, within), MarginMethod.LIPSCHITZ)
    stopped = certify_margins(
        *loaded, x, normals, offsets, stop=lambda: True, valid_within=within.clamp_min(1e3)
    )
    assert not any(answer.converged for answer in stopped)
    assert all(a.radius >= b.radius for a, b in zip(stopped, floor, strict=True))


@pytest.mark.parametrize(
    ("within", "message"),
    [
        (torch.ones(1, 3), r"valid_within: must be \[1, 4\], got \[1, 3\]"),
        (torch.ones(1, 4), "valid_within: must be float64"),
        (torch.zeros(1, 4).double(), "valid_within: must be above 0"),
        (-torch.ones(1, 4).double(), "valid_within: must be above 0"),
        (torch.full((1, 4), torch.nan).double(), "valid_within: must be above 0"),
    ],
)
def test_a_ball_that_makes_no_sense_is_refused(
    loaded: Loaded, within: Tensor, message: str
) -> None:
    x, normals, offsets, _ = sets(loaded[0], 1)
    with pytest.raises(InvalidQueryError, match=message):
        certify(loaded, (x, normals, offsets, within))
