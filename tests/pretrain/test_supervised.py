"""Supervised pre-training: it learns labels, asks for them, and takes the spectral term too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reaas_pretrain.recipe import Recipe, RecipeError
from reaas_pretrain.train import Trainer

from tests.pretrain.recipes import random_images, tiny_recipe


def _recipe(weight: float, epochs: int = 12) -> Recipe:
    return tiny_recipe(
        objective="supervised",
        augmentation={"jitter": 0.0, "grey": 0.0},
        spectral={"weight": weight},
        optimiser={"learning_rate": 0.5},
        schedule={"epochs": epochs},
    )


def _run(directory: Path, weight: float) -> Trainer:
    data = random_images()
    trainer = Trainer(_recipe(weight), data.images, directory, labels=data.labels)
    trainer.run()
    return trainer


def test_it_learns_the_labels_and_the_term_lowers_the_constant(tmp_path: Path) -> None:
    plain, robust = (_run(tmp_path / str(weight), weight) for weight in (0.0, 1.0))
    assert plain.history[-1]["contrast_top1"] > 0.9
    assert plain.history[-1]["loss"] < 0.5 * plain.history[0]["loss"]
    norms = [
        run.history[-1]["sigma_product"] / run.history[-1]["spread"] for run in (plain, robust)
    ]
    assert norms[1] < 0.8 * norms[0]


def test_a_step_sees_one_view(tmp_path: Path) -> None:
    data = random_images()
    trainer = Trainer(_recipe(0.0), data.images, tmp_path, labels=data.labels)
    views, _ = trainer.draw(torch.arange(8))
    assert len(views) == 1


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    images = random_images().images
    for labels in (None, torch.full((len(images),), -1)):
        with pytest.raises(
            RecipeError, match="supervised needs labels, and these images have none"
        ):
            Trainer(_recipe(0.0), images, tmp_path, labels=labels)
