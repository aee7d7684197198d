"""Image files of data sets, by the one decoder, where Pillow is installed."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ._dataset import DatasetError, Images


def decode(file: Path | BinaryIO, origin: object) -> Images:
    """One image file as RGB `[h, w, 3]`; `origin` names it in the error."""
    try:
        from reaas.images import ImageFileError, as_rgb8, read_image
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{origin} holds compressed images: install Pillow (pip install 'reaas[cli]')"
        ) from error
    try:
        return as_rgb8(read_image(file, name=origin))
    except ImageFileError as error:
        raise DatasetError(str(error)) from error
