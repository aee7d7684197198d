"""From Pillow's modes to pixels of uint8, or float32 in [0,1]."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._errors import ImageFileError

Pixels = NDArray[Any]
"""`[h, w, 1 or 3]`, uint8 or float32 in [0,1]."""
_GREY = ("1", "L", "LA", "La")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def pixels_of(image: Image.Image, background: tuple[int, int, int] | None, where: object) -> Pixels:
    """The pixels of a loaded image. Raises ImageFileError where they could mean several things."""
    transparent = image.has_transparency_data
    if image.mode.startswith("I"):
        if transparent:
            raise ImageFileError(where, "has more than 8 bits and a transparent colour")
        return _integers(image, where)
    if image.mode == "F":
        return unit_range(np.asarray(image)[..., np.newaxis], where)
    grey = image.mode in _GREY
    if transparent:
        return _composed(_straight(image), grey, background, where)
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[..., np.newaxis] if grey else pixels


def unit_range(values: NDArray[Any], where: object) -> Pixels:
    """Floats as float32, if they are in [0,1]; else ImageFileError with the range."""
    if not values.size:
        raise ImageFileError(where, f"has the shape {values.shape}: no pixels")
    low, high = float(values.min()) + 0.0, float(values.max()) + 0.0  # -0 is 0.
    if low >= 0.0 and high <= 1.0:
        return values.astype(np.float32)
    hint = ""
    if np.isnan(low) or np.isinf([low, high]).any():
        hint = ": not every value is a finite number"
    elif low < 0:
        hint = "; is it normalised? Undo that, encoders do it themselves"
    elif high <= 255:
        hint = "; is it 0..255? Divide by 255, or save uint8"
    raise ImageFileError(
        where, f"has values from {low:g} to {high:g}, not in [0,1]{hint}", limit="[0,1]"
    )


def as_rgb8(pixels: Pixels) -> NDArray[np.uint8]:
    """`[h, w, 3]` uint8 of any pixels: for training and for looking at, not for certificates."""
    if pixels.dtype != np.uint8:
        pixels = np.rint(255.0 * pixels).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), np.uint8)


def pixels_digest(pixels: Pixels) -> str:
    """SHA-256 of type, shape and values: equal for equal pixels, wherever they came from."""
    about = f"{pixels.dtype.name} {pixels.shape} ".encode()
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(about + little.tobytes()).hexdigest()


def _integers(image: Image.Image, where: object) -> Pixels:
    """Grey of more than 8 bits, scaled by the largest value that the file could have held."""
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image).astype(np.float64)[..., np.newaxis]  # [h, w, 1]
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # These say 65535 is white.
        raise ImageFileError(
            where,
            f"has signed or 32-bit integers ({values.min():.0f} to {values.max():.0f}); nothing "
            "says which one is white: save 8 or 16 bits, or floats in [0,1]",
        )
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    values /= 2.0**bits - 1
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns this round for 8 bits only.
        values = 1.0 - values
    return unit_range(values, where)


def _straight(image: Image.Image) -> NDArray[np.uint8]:
    """`[h, w, 4]`: RGB, not multiplied by alpha, and alpha."""
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image.convert("RGBA"), np.uint8)


def _composed(
    rgba: NDArray[np.uint8], grey: bool, background: tuple[int, int, int] | None, where: object
) -> Pixels:
    """What shows of `[h, w, 4]` over a background; without one, only if nothing shows through."""
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return colour[..., :1] if grey else colour
    if background is None:
        raise ImageFileError(
            where, "has transparent pixels; say what is behind them (--background white)"
        )
    share = alpha / 255.0
    seen = np.rint(share * colour + (1.0 - share) * np.array(background)).astype(np.uint8)
    plain: NDArray[np.uint8] = seen[..., :1] if grey and len(set(background)) == 1 else seen
    return plain
