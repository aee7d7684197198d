"""From an image file to pixels: what is refused, and why, before anything is decoded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ._errors import ImageFileError
from ._pixels import Pixels, pixels_of

_FORMATS = (
    *("PNG", "JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "HEIF", "GIF"),
    *("BMP", "DIB", "TIFF", "PPM", "TGA", "ICO", "PCX", "SGI"),
)
"""Raster formats. Pillow's others are documents (EPS runs Ghostscript), films, or raw data."""
_STILLS = ("MPO", "ICO")
"""Several pictures in these are one: a preview or a depth map beside it, or smaller icons."""
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class DecodeOptions:
    """What is done where a file does not say by itself what its pixels are."""

    background: tuple[int, int, int] | None = None
    """RGB 0..255 under transparent pixels. None refuses them: what colour shows through is the
    viewer's choice and nothing that the file says."""
    first_frame: bool = False
    """Take the first picture of an animation or of several pages; else they are refused, since a
    certificate of one frame says nothing about the others."""
    max_pixels: int = 120_000_000
    """Largest width x height. A 108-megapixel camera is below; decoded it takes 360 MB."""


REFUSING = DecodeOptions()
"""Nothing is guessed."""


def read_image(
    file: Path | BinaryIO, options: DecodeOptions = REFUSING, *, name: object = None
) -> Pixels:
    """Pixels of an image file: `[h, w, 1]` where it is grey, else RGB `[h, w, 3]`.

    uint8; or float32 in [0,1] where the file has more than 8 bits of grey, or floats. Turned
    upright by its EXIF orientation. Colour profiles are not applied. `name` stands for the file in
    messages. Raises ImageFileError.
    """
    where = file if name is None else name
    try:
        with warnings.catch_warnings():
            # Size is checked below; other warnings are about tags that nobody reads.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_known_formats()) as image:
                _check(image, options, where)
                image.load()
                return upright(pixels_of(image, options.background, where), _orientation(image))
    except ImageFileError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(where, "too many pixels", options) from error
    except MemoryError as error:
        raise ImageFileError(where, "is too large for this machine's memory") from error
    except Exception as error:
        # Pillow's plugins raise whatever a broken file leads them to: struct.error, SyntaxError ...
        raise ImageFileError(where, f"is no readable image: {_reason(error)}") from error


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """`[h, w, c]` turned as EXIF's orientation 1..8 asks; anything else is taken for upright."""
    if orientation in (5, 6, 7, 8):  # Stored with rows for columns.
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _known_formats() -> list[str]:
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _check(image: Image.Image, options: DecodeOptions, where: object) -> None:
    if image.width * image.height > options.max_pixels:
        raise _too_large(where, f"{image.width} x {image.height} pixels", options)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in _STILLS and not options.first_frame:
        raise ImageFileError(
            where,
            f"has {frames} frames or pages; take one out, or ask for the first one (--first-frame)",
            limit="1 frame",
        )


def _too_large(where: object, size: str, options: DecodeOptions) -> ImageFileError:
    limit = f"{options.max_pixels:,} pixels"
    return ImageFileError(where, f"has {size}; the limit is {limit}", limit=limit)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation. After loading: Pillow turns TIFF files by itself and drops the tag."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # A broken EXIF block says nothing; viewers overlook it too.
        return 1


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or has none of the formats " + ", ".join(_known_formats())
    return (str(error) or type(error).__name__).splitlines()[0]
