"""Image files as the pixels that a person sees in them: one decoder for all of the project.

Needs Pillow: pip install 'reaas[cli]'.
"""

from __future__ import annotations

from ._arrays import image_stack, read_arrays
from ._decode import DecodeOptions, read_image
from ._errors import ImageFileError
from ._folder import ARRAYS, SUFFIXES, class_of, image_files
from ._pixels import Pixels, as_rgb8, pixels_digest
from ._resize import ResizeMap

__all__ = [
    "ARRAYS",
    "SUFFIXES",
    "DecodeOptions",
    "ImageFileError",
    "Pixels",
    "ResizeMap",
    "as_rgb8",
    "class_of",
    "image_files",
    "image_stack",
    "pixels_digest",
    "read_arrays",
    "read_image",
]
