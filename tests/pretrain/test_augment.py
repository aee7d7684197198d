"""Augmentation: what it keeps, what it changes, and that a recipe can switch it off."""

from __future__ import annotations

import pytest
import torch
from reaas_pretrain.augment import crop_and_flip, jitter_colours, random_view
from reaas_pretrain.chance import Chance
from reaas_pretrain.sections import AugmentationConfig

from tests.pretrain.recipes import random_images

STILL = AugmentationConfig(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0, jitter=0, grey=0)


def _chance(seed: int = 0) -> Chance:
    return Chance(torch.Generator().manual_seed(seed))


def test_switched_off_it_is_the_identity() -> None:
    images = random_images().images
    view = random_view(images, STILL, _chance())
    assert torch.allclose(view, images.float() / 255, atol=1e-5)


def test_views_differ_and_stay_in_range() -> None:
    images = random_images().images
    chance = _chance()
    first, second = (random_view(images, AugmentationConfig(), chance) for _ in range(2))
    assert first.shape == images.shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert not torch.equal(first, second)
    assert torch.equal(first, random_view(images, AugmentationConfig(), _chance()))


def test_flip_mirrors_columns() -> None:
    images = torch.rand(3, 3, 6, 6)
    flipped = crop_and_flip(images, STILL.model_copy(update={"flip": 1.0}), _chance())
    assert torch.allclose(flipped, images.flip(3), atol=1e-5)


def test_crops_stay_inside_the_image() -> None:
    ramp = torch.linspace(0, 1, 8).expand(50, 3, 8, 8)
    config = STILL.model_copy(update={"crop_scale": (0.2, 0.5)})
    crops = crop_and_flip(ramp, config, _chance())
    widths = crops[:, 0, 0, -1] - crops[:, 0, 0, 0]
    assert (widths > 0).all()
    assert (widths < 0.75).all()


def test_grey_views_have_no_colour() -> None:
    images = torch.rand(5, 3, 6, 6)
    grey = jitter_colours(images, STILL.model_copy(update={"grey": 1.0}), _chance())
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-5)
    luma = torch.einsum("c,nchw->nhw", torch.tensor([0.299, 0.587, 0.114]), images)
    assert torch.allclose(grey[:, 1], luma, atol=1e-5)


@pytest.mark.parametrize("part", ["brightness", "contrast", "saturation", "hue"])
def test_every_part_of_the_jitter_does_something_and_spares_grey_images(part: str) -> None:
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    config = STILL.model_copy(update={"jitter": 1.0, **off, part: 0.3})
    images = torch.rand(6, 3, 6, 6) * 0.4 + 0.3
    assert not torch.allclose(jitter_colours(images, config, _chance()), images, atol=1e-3)
    grey = torch.full((4, 3, 5, 5), 0.5)
    kept = jitter_colours(grey, config, _chance())
    assert torch.allclose(kept[:, 0], kept[:, 2], atol=2e-3)
