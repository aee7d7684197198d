"""Image files, decoded by Pillow where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from ._dataset import DatasetError, Images


def decode(file: Path | BinaryIO, origin: object) -> Images:
    """One image file as RGB `[h, w, 3]`; `origin` names it in the error."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise DatasetError(
            f"{origin} holds compressed images: install Pillow (pip install 'reaas[cli]')"
        ) from error
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DatasetError(f"{origin} is no readable image: {error}") from error
