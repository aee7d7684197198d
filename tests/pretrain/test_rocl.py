"""RoCL: its losses against the formula, its attack inside the ball and worth its name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from reaas_pretrain.attack import attacked, project
from reaas_pretrain.chance import Chance
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.recipe import Recipe
from reaas_pretrain.rocl import RoCL, nt_xent
from reaas_pretrain.sections import AttackConfig
from reaas_pretrain.train import Trainer
from torch.nn.functional import cosine_similarity, normalize

from tests.pretrain.recipes import random_images, tiny_recipe


def _chance() -> Chance:
    return Chance(torch.Generator().manual_seed(0))


def _recipe(norm: Literal["linf", "l2"] = "linf") -> Recipe:
    return tiny_recipe(
        objective="rocl",
        contrast={"temperature": 0.5, "projection": 7},
        attack={"norm": norm, "epsilon": 0.05, "step": 0.02, "steps": 3, "weight": 0.25},
        spectral={"weight": 0.0},
    )


def _by_hand(rows: list[torch.Tensor], views: int, temperature: float) -> float:
    """Six (or two) pair terms an image, every row against all rows but itself."""
    n = len(rows) // views
    total = 0.0
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        weights = {
            j: math.exp(float(cosine_similarity(row, rows[j], dim=0)) / temperature) for j in others
        }
        for j in others:
            if j % n == i % n:
                total -= math.log(weights[j] / sum(weights.values()))
    return total / len(rows)


@pytest.mark.parametrize("views", [2, 3])
def test_nt_xent_is_the_formula_of_the_paper(views: int) -> None:
    torch.manual_seed(1)
    parts = torch.randn(views, 4, 5)
    expected = _by_hand(list(parts.flatten(0, 1)), views, 0.5)
    assert float(nt_xent(list(parts), 0.5)) == pytest.approx(expected, rel=1e-5)


def test_the_side_that_is_compared_with_is_constant() -> None:
    torch.manual_seed(1)
    one, two = torch.randn(2, 4, 5)
    one.requires_grad_()
    nt_xent([one, two], 0.5).backward()  # type: ignore[no-untyped-call]
    row = one.detach()[:1].clone().requires_grad_()
    keys = normalize(torch.cat([one.detach(), two]), dim=1)
    logits = (normalize(row, dim=1) @ keys.T / 0.5)[0]
    alone = -(logits[4] - torch.cat([logits[1:]]).logsumexp(0)) / 8
    (expected,) = torch.autograd.grad(alone, row)
    assert one.grad is not None
    assert torch.allclose(one.grad[:1], expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attack_stays_in_the_ball_and_climbs(norm: Literal["linf", "l2"]) -> None:
    torch.manual_seed(0)
    images, target = torch.rand(2, 6, 3, 4, 4)
    config = AttackConfig(norm=norm, epsilon=0.1, step=0.03, steps=8)

    def loss(moved: torch.Tensor) -> torch.Tensor:
        distance: torch.Tensor = (moved - target).square().sum()
        return distance

    adversarial = attacked(images, loss, config, _chance())
    change = (adversarial - images).flatten(1)
    sizes = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(sizes.max()) <= 0.1 + 1e-6
    assert float(sizes.min()) >= 0.05
    assert float(adversarial.min()) >= 0
    assert float(adversarial.max()) <= 1
    assert loss(adversarial) > loss(images)
    assert torch.equal(adversarial, attacked(images, loss, config, _chance()))


def test_projection_leaves_what_is_inside_and_scales_what_is_outside() -> None:
    change = torch.tensor([[3.0, 4.0], [0.3, 0.4]]).view(2, 2, 1, 1)
    ball = project(change, AttackConfig(norm="l2", epsilon=1.0)).flatten(1)
    assert torch.allclose(ball, torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    box = project(change, AttackConfig(norm="linf", epsilon=1.0)).flatten(1)
    assert torch.allclose(box, torch.tensor([[1.0, 1.0], [0.3, 0.4]]))


def test_loss_adds_the_attacked_view_and_a_share_of_its_own_pair() -> None:
    recipe = _recipe()
    torch.manual_seed(0)
    model = RoCL(ConvEncoder(recipe.encoder), recipe.contrast, recipe.attack, _chance())
    views = list(torch.rand(2, 8, 3, 9, 9))
    outcome = model(views, torch.zeros(8))
    model.chance = _chance()

    def unlike(moved: torch.Tensor) -> torch.Tensor:
        return nt_xent([model.projection(model.encoder(v)) for v in (moved, views[1])], 0.5)

    adversarial = attacked(views[0], unlike, recipe.attack, _chance())
    parts = [model.projection(model.encoder(view)) for view in (*views, adversarial)]
    expected = nt_xent(parts, 0.5) + 0.25 * nt_xent([parts[2], parts[1]], 0.5)
    assert torch.allclose(outcome.loss, expected, rtol=1e-4)
    assert torch.allclose(outcome.features, model.encoder(views[0]), atol=1e-5)
    pair = nt_xent([parts[0], parts[1]], 0.5)
    assert nt_xent([parts[2], parts[1]], 0.5) > pair


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(
    norm: Literal["linf", "l2"], tmp_path: Path
) -> None:
    images = random_images(24).images
    whole = Trainer(_recipe(norm), images, tmp_path / "whole")
    whole.run()
    Trainer(_recipe(norm), images, tmp_path / "cut").run(until_epoch=1)
    rest = Trainer(_recipe(norm), images, tmp_path / "cut")
    rest.resume()
    rest.run()
    expected = whole.learner.objective.state_dict()
    for key, value in rest.learner.objective.state_dict().items():
        assert torch.equal(value, expected[key])
