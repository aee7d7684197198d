"""Which objective a recipe asks for."""

from __future__ import annotations

from torch import Tensor

from reaas_pretrain.chance import Chance
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.moco import EndToEnd, MoCo
from reaas_pretrain.objective import Objective
from reaas_pretrain.recipe import Recipe, RecipeError
from reaas_pretrain.rocl import RoCL
from reaas_pretrain.supervised import Supervised


def build_objective(
    recipe: Recipe, encoder: ConvEncoder, labels: Tensor, chance: Chance
) -> Objective:
    """The recipe's objective on images with `labels [n]` (-1 where unknown).

    Raises `RecipeError` if it needs labels that the images don't have.
    """
    if recipe.objective == "supervised":
        if int(labels.min()) < 0:
            raise RecipeError(
                f"recipe {recipe.name}: objective supervised needs labels, and these images have"
                " none; choose labelled images or another objective"
            )
        return Supervised(encoder, int(labels.max()) + 1)
    if recipe.objective == "rocl":
        return RoCL(encoder, recipe.contrast, recipe.attack, chance)
    if recipe.contrast.mechanism == "end-to-end":
        return EndToEnd(encoder, recipe.contrast, chance.group)
    return MoCo(encoder, recipe.contrast, chance.group)
