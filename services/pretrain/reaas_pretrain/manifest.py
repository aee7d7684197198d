"""manifest.json: what a published version says of itself."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reaas_bounds import CertifiedConstants
from torch import Tensor

from reaas_pretrain.evaluate import Judge, measure

# Sides of images that every encoder takes.
_SMALLEST, _LARGEST = 4, 256


def digest_of(onnx_bytes: bytes) -> str:
    """The name of exactly this file."""
    return "sha256:" + hashlib.sha256(onnx_bytes).hexdigest()


def manifest_of(
    version: Path,
    digest: str,
    constants: CertifiedConstants,
    checked: dict[str, Any],
    *,
    shape: tuple[int, int, int],
    feature_dim: int,
    description: str,
    training: dict[str, Any],
    quality: dict[str, Any],
) -> dict[str, Any]:
    """The manifest of a version in its directory, for images of `shape` (height, width, channels).

    Images of other sizes and grey ones are accepted: rescaling is linear, hence certified.
    """
    return {
        "schema": 1,
        "name": version.parent.name,
        "version": version.name,
        "digest": digest,
        "description": description,
        "input": {
            "kind": "image",
            "shape": list(shape),
            "dtypes": ["uint8", "float32"],
            "value_range": [0.0, 1.0],
            "accepted_range": [-16.0, 16.0],
            "resize": resize_section(shape[:2]),
            "grey": shape[2] == 3,
        },
        "feature": {"dim": feature_dim},
        "certified": certified_section(constants),
        "checked": checked,
        "training": training,
        "quality": quality,
    }


def resize_section(size: tuple[int, int]) -> dict[str, Any]:
    """Sizes that are rescaled to `size` (height, width); its own is always among them."""
    return {
        "method": "bilinear",
        "min_size": [min(_SMALLEST, side) for side in size],
        "max_size": [max(_LARGEST, side) for side in size],
    }


def certified_section(constants: CertifiedConstants) -> dict[str, Any]:
    """Constants as the services verify them at load."""
    return {
        "lipschitz": constants.lipschitz,
        "method": constants.method,
        "layer_norms": list(constants.layer_norms),
        "relative_rounding": constants.relative_rounding,
        "float32_error": {
            "slope": constants.float32_slope,
            "offset": constants.float32_offset,
        },
    }


def quality_section(
    features: Callable[[Tensor], Tensor], judge: Judge, lipschitz: float
) -> dict[str, Any]:
    """How good `features` (of uint8 images `[n, 3, s, s]`) are on the judge's images."""
    quality = asdict(measure(features, judge, lipschitz))
    seen = {"train_images": len(judge.train), "test_images": len(judge.test)}
    return {"dataset": judge.name} | seen | _rounded(quality)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {key: value if math.isnan(value) else round(value, 4) for key, value in values.items()}
