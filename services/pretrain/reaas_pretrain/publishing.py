"""From a run's checkpoint to a served encoder: model.onnx and manifest.json of one version.

The constants in the manifest come from `reaas_bounds`, computed from the bytes that are served.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reaas_bounds import certified_constants, load_network
from torch import Tensor

from reaas_pretrain.checked import checked_section
from reaas_pretrain.checkpoint import Checkpoint
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.evaluate import Judge, encode
from reaas_pretrain.manifest import digest_of, manifest_of, quality_section
from reaas_pretrain.onnx_graph import encoder_onnx, run_onnx
from reaas_pretrain.recipe import Recipe, parse_recipe
from reaas_pretrain.versions import Published, PublishError, publish_version

ONNX_TOLERANCE = 1e-4
"""Largest difference from torch that export accepts, relative to the largest feature: float32
rounding of some thousand terms stays a hundred times below, a wrong graph a hundred times above."""


@torch.no_grad()
def standardise(encoder: ConvEncoder, images: Tensor) -> float:
    """Centres the features of `images [n, 3, s, s]` uint8 and scales them to unit deviation.

    One number for all coordinates, folded into the last layer: contrast doesn't care for the scale,
    a client's classifier trains better at scale 1, and radii are unchanged (margins and the
    Lipschitz constant scale alike). Orthogonal encoders are centred only: their scale is that of
    the images, and their constant says what they are. Returns the factor.
    """
    features = encode(encoder, images)  # [n, d]
    centre = features.mean(0)
    spread = float((features - centre).square().mean().sqrt())
    factor = 1.0 if encoder.config.family == "orthogonal" else 1 / spread
    encoder.linear.bias.sub_(centre)
    encoder.linear.bias.mul_(factor)
    if factor != 1:
        encoder.linear.weight.mul_(factor)
    return factor


def trained_encoder(checkpoint: Checkpoint) -> tuple[Recipe, ConvEncoder]:
    """The encoder of a checkpoint, in evaluation mode."""
    recipe = parse_recipe(checkpoint.recipe, origin="checkpoint")
    encoder, prefix = ConvEncoder(recipe.encoder), "encoder."
    state = {k.removeprefix(prefix): v for k, v in checkpoint.model.items() if k.startswith(prefix)}
    encoder.load_state_dict(state)
    return recipe, encoder.eval().requires_grad_(False)


def publish(
    run: Path,
    models: Path,
    typical: Tensor,
    judge: Judge | None,
    version: str | None = None,
    *,
    replace: bool = False,
) -> Published:
    """Exports, certifies, measures and publishes the encoder of `run`.

    `typical [n, 3, s, s]` uint8 are images of the kind it was trained on: its features are
    standardised on them. Quality is measured on the judge's images; without one the manifest's
    `quality` is empty. `version` None is the next number, unless this very encoder is published
    already: then nothing is written, and that version is the answer.

    Raises `PublishError` if ONNX Runtime disagrees with torch, or if the version is there already
    and `replace` is false (a published version is immutable: certificates name its digest).
    """
    checkpoint = Checkpoint.load(run)
    recipe, encoder = trained_encoder(checkpoint)
    standardise(encoder, typical)
    onnx_bytes = encoder_onnx(encoder)
    difference = _onnx_difference(encoder, onnx_bytes, typical[:256].float() / 255)
    digest = digest_of(onnx_bytes)

    def describe(target: Path) -> dict[str, Any]:
        network = load_network(onnx_bytes)
        constants = certified_constants(network)
        side, features = recipe.encoder.image_size, partial(encode, encoder)
        return manifest_of(
            target,
            digest,
            constants,
            checked_section(onnx_bytes, network, (typical[:4].float() / 255).numpy()),
            shape=(side, side, 3),
            feature_dim=recipe.encoder.feature_dim,
            description=recipe.description,
            training=_training(recipe, checkpoint),
            quality=quality_section(features, judge, constants.lipschitz) if judge else {},
        )

    family = models / recipe.name
    done = publish_version(family, version, onnx_bytes, digest, describe, replace=replace)
    return dataclasses.replace(done, onnx_difference=difference)


def _onnx_difference(encoder: ConvEncoder, onnx_bytes: bytes, images: Tensor) -> float:
    with torch.no_grad():
        expected = encoder(images).numpy()  # [n, d]
    difference = float(np.abs(run_onnx(onnx_bytes, images) - expected).max())
    if not difference <= ONNX_TOLERANCE * float(np.abs(expected).max()):
        raise PublishError(
            f"ONNX Runtime differs from torch by {difference:g} on {len(images)} images, features"
            f" reach {np.abs(expected).max():g}: the exported graph is wrong"
        )
    return difference


def _training(recipe: Recipe, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "recipe": recipe.name,
        "data": checkpoint.data,
        "seed": recipe.schedule.seed,
        "epochs": checkpoint.epoch,
        "steps": checkpoint.step,
        "seconds": round(checkpoint.seconds),
        "loss": round(checkpoint.history[-1]["loss"], 4),
        "objective": recipe.objective,
        "settings": recipe.model_dump(mode="json", include=_settings(recipe)),
    }


def _settings(recipe: Recipe) -> set[str]:
    """The recipe's sections that this run was decided by."""
    read = {"moco": {"contrast"}, "rocl": {"contrast", "attack"}, "supervised": set[str]()}
    return {"encoder", "augmentation", "spectral", "optimiser", "schedule"} | read[recipe.objective]
