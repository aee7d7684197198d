"""Self-supervised pre-training of encoders whose features small perturbations move little.

A `Recipe` says what is computed, a `Trainer` computes it and leaves checkpoints, `publish` turns a
checkpoint into a served encoder with certified constants.
"""

from __future__ import annotations

from reaas_pretrain.checkpoint import Checkpoint, CheckpointError
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.images import ImagesError, LabelledImages
from reaas_pretrain.publishing import Published, PublishError, publish
from reaas_pretrain.recipe import Recipe, RecipeError, load_recipe, parse_recipe
from reaas_pretrain.train import DivergedError, Monitor, Trainer, Watcher

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ConvEncoder",
    "DivergedError",
    "ImagesError",
    "LabelledImages",
    "Monitor",
    "PublishError",
    "Published",
    "Recipe",
    "RecipeError",
    "Trainer",
    "Watcher",
    "load_recipe",
    "parse_recipe",
    "publish",
]
