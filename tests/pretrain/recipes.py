"""A recipe small enough that a run takes a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch
from reaas_pretrain.evaluate import Judge
from reaas_pretrain.images import LabelledImages
from reaas_pretrain.recipe import Recipe, parse_recipe

TINY: dict[str, Any] = {
    "name": "tiny",
    "encoder": {"channels": [4, 6], "feature_dim": 5, "image_size": 9},
    "contrast": {"queue": 16},
    "spectral": {"weight": 0.3},
    "schedule": {"epochs": 3, "batch": 8},
}


def tiny_recipe(objective: str = "moco", **sections: dict[str, Any]) -> Recipe:
    """The tiny recipe with keys of some sections changed."""
    values = {**TINY, "objective": objective}
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes}
    return parse_recipe(values)


def random_images(count: int = 40, side: int = 9, classes: int = 3) -> LabelledImages:
    """Noise around one colour a class, uint8 `[n, 3, side, side]`."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(count) % classes
    colours = torch.randint(40, 200, (classes, 3, 1, 1), generator=generator)
    noise = torch.randint(-30, 30, (count, 3, side, side), generator=generator)
    return LabelledImages((colours[labels] + noise).to(torch.uint8), labels)


def judge(data: LabelledImages) -> Judge:
    """Judges features by the images that they are learned from: enough to see it work."""
    return Judge("noise", data, data)
