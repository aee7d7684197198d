"""The certified radius that a client computes itself, from the model's published constants."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reaas._errors import InvalidArgumentError, ProtocolError
from reaas._model import CertifiedConstants, ModelInfo
from reaas._tensor import check_inputs

# Outward margin for the float64 arithmetic of this module. A sum of m squares in any order is off
# by less than m * 2^-53 of its value; m < 10^6 elements leave 10^-10 ample, and the few operations
# after it are lost in it.
_MARGIN = 1e-9


def check_feature_radii(feature_radii: NDArray[Any], n: int) -> NDArray[np.float64]:
    """R' of each input as float64 [n]. Raises InvalidArgumentError unless all are finite, > 0."""
    radii = np.asarray(feature_radii, dtype=np.float64)
    if radii.shape != (n,):
        raise InvalidArgumentError(
            f"feature_radii has shape {radii.shape}; it needs one radius for each of {n} inputs",
            reason="INVALID_RADIUS",
            field="feature_radii",
            limit=f"({n},)",
            got=str(radii.shape),
        )
    wrong = np.flatnonzero(~(np.isfinite(radii) & (radii > 0)))
    if wrong.size:
        raise InvalidArgumentError(
            f"feature_radii[{wrong[0]}] is {radii[wrong[0]]}; a radius must be finite and above 0 "
            "(an input that nothing is certified for needs no query)",
            reason="INVALID_RADIUS",
            field="feature_radii",
            limit="> 0, finite",
            got=str(radii[wrong[0]]),
        )
    return radii


def radius_from_constant(
    info: ModelInfo, inputs: NDArray[Any], feature_radii: NDArray[Any]
) -> NDArray[np.float64]:
    """Image-space certified radii R, float64 [n], of inputs [n, h, w, c] by R'/L. Deterministic.

    Theorem: let f be L-Lipschitz and the served g within slope * ||x|| + offset of it (2-norms).
    If L r + (slope ||x|| + offset) + (slope (||x|| + r) + offset) <= R', then every x' with
    ||x' - x|| <= r has ||g(x') - g(x)|| <= R'. Solved for r:
    R = (R' - 2 slope ||x|| - 2 offset) / (L + slope), and 0 where that is negative.
    Rounded downward by a stated margin. Units: pixels in [0,1], so uint8 counts as value / 255.

    Raises InvalidArgumentError where an input has not the encoder's own shape: L is certified for
    that one only. F2IPerturb takes the others.
    """
    images, radii = check_inputs(inputs), check_feature_radii(feature_radii, len(inputs))
    if images.shape[1:] != info.input.shape:
        raise InvalidArgumentError(
            f"inputs has shape {images.shape}; the constants of {info.ref.name} hold for "
            f"[n, {', '.join(map(str, info.input.shape))}] only, ask perturb instead",
            reason="INVALID_SHAPE",
            field="inputs.shape",
            limit=str(info.input.shape),
            got=str(images.shape),
        )
    constants = _usable(info)
    norms = _norms(images) * (1 + _MARGIN)  # [n]
    rounding = 2 * (constants.float32_error_slope * norms + constants.float32_error_offset)
    room = radii * (1 - _MARGIN) - rounding * (1 + _MARGIN)  # [n]
    slope = (constants.lipschitz + constants.float32_error_slope) * (1 + _MARGIN)
    certified: NDArray[np.float64] = np.maximum(0.0, room / slope)
    return certified


def _usable(info: ModelInfo) -> CertifiedConstants:
    """The constants, if they are what a certificate can stand on: an unset L would give R = inf."""
    constants = info.constants
    errors = (constants.float32_error_slope, constants.float32_error_offset)
    if not (np.isfinite(constants.lipschitz) and constants.lipschitz > 0):
        raise ProtocolError(f"{info.ref}: lipschitz is {constants.lipschitz}, it must be above 0")
    if not all(np.isfinite(error) and error >= 0 for error in errors):
        raise ProtocolError(f"{info.ref}: the float32 error is {errors}, it must be 0 or more")
    return constants


def _norms(images: NDArray[Any]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1).astype(np.float64)  # [n, h*w*c]
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    norms: NDArray[np.float64] = np.linalg.norm(flat, axis=1) / scale
    if not np.isfinite(norms).all():
        raise InvalidArgumentError(
            f"inputs[{np.flatnonzero(~np.isfinite(norms))[0]}] has a value that is not finite",
            reason="INVALID_VALUE",
            field="inputs",
            limit="finite",
        )
    return norms
