"""Self-supervised pre-training of encoders whose features small perturbations move little.

A `Recipe` says what is computed, a `Trainer` computes it and leaves checkpoints, `publish` turns a
checkpoint into a served encoder with certified constants.
"""

from __future__ import annotations

from reaas_pretrain.checkpoint import Checkpoint, CheckpointError
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.group import Group, torchrun_group
from reaas_pretrain.image_files import ImagesError
from reaas_pretrain.images import LabelledImages, labelled_images, training_images
from reaas_pretrain.log import TensorBoard, Watcher
from reaas_pretrain.monitor import Monitor
from reaas_pretrain.publishing import publish
from reaas_pretrain.recipe import Recipe, RecipeError, load_recipe, parse_recipe
from reaas_pretrain.train import DivergedError, Trainer
from reaas_pretrain.versions import Published, PublishError

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ConvEncoder",
    "DivergedError",
    "Group",
    "ImagesError",
    "LabelledImages",
    "Monitor",
    "PublishError",
    "Published",
    "Recipe",
    "RecipeError",
    "TensorBoard",
    "Trainer",
    "Watcher",
    "labelled_images",
    "load_recipe",
    "parse_recipe",
    "publish",
    "torchrun_group",
    "training_images",
]
