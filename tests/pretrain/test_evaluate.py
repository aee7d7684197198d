"""k-NN, probe and margins on features whose answers are known."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.evaluate import Judge, LinearProbe, encode, knn_accuracy, measure, train_probe

from tests.pretrain.recipes import random_images, tiny_recipe


def _clusters(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return 4 * torch.eye(3)[labels] + 0.3 * torch.randn(count, 3, generator=generator), labels


def test_separate_clusters_are_told_apart() -> None:
    train, test = _clusters(120, 0), _clusters(60, 1)
    assert knn_accuracy(*train, *test) == 1.0
    probe = train_probe(*train)
    assert probe.accuracy(*test) == 1.0
    assert bool((probe.margins(*test) > 0).all())


def test_margin_is_the_distance_to_the_nearest_decision_surface() -> None:
    probe = LinearProbe(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 2.0]))
    features = torch.tensor([[4.0, 7.0], [0.5, 7.0]])  # the surface is x = 1
    margins = probe.margins(features, torch.tensor([0, 0]))
    assert margins.tolist() == pytest.approx([3.0, -0.5])


def test_margin_survives_every_smaller_step() -> None:
    train, (features, labels) = _clusters(120, 0), _clusters(60, 1)
    probe = train_probe(*train, noise=0.5)
    margins = probe.margins(features, labels)
    assert bool((margins > 0).all())
    directions = torch.nn.functional.normalize(torch.randn(60, 3, 50), dim=1)
    for step in directions.unbind(2):
        assert probe.accuracy(features + 0.99 * margins.unsqueeze(1) * step, labels) == 1.0


def test_radius_halves_when_the_constant_doubles() -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(tiny_recipe().encoder)
    data = random_images(200)
    judge = Judge("noise", data, data.head(60))
    one, two = (measure(partial(encode, encoder), judge, lipschitz) for lipschitz in (0.01, 0.02))
    assert one.constant_acr == pytest.approx(2 * two.constant_acr)
    assert one.knn_top1 == two.knn_top1 > 0.9
    far = measure(partial(encode, encoder), judge, lipschitz=1e6)
    assert one.constant_certified_at_36 >= two.constant_certified_at_36 > 0
    assert far.constant_certified_at_36 == 0
