"""Images in `.npy` and `.npz` files: numbers that carry no meaning but their range and order."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import ImageFileError
from ._pixels import Pixels, unit_range

_CHANNELS = (1, 3)
_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npy (as `images`) or .npz file by name; without pickles."""
    try:
        with file.open("rb") as stream:  # numpy forgets to close a broken .npz that it opened
            loaded = np.load(stream, allow_pickle=False)
            return {"images": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except _UNREADABLE as error:
        raise ImageFileError(file, f"is no readable array file: {error}") from error


def image_stack(file: Path, arrays: dict[str, NDArray[Any]]) -> Pixels:
    """The images of an array file, [n, h, w, c], uint8 or float32 in [0,1].

    Raises ImageFileError for another range, for channels that come first, and for other types.
    """
    if "images" not in arrays and len(arrays) != 1:
        names = ", ".join(arrays)
        raise ImageFileError(
            file, f"has the arrays {names}; the one of the images must be named `images`"
        )
    stack = arrays.get("images", next(iter(arrays.values())))
    if stack.dtype != np.uint8 and stack.dtype.kind != "f":
        raise ImageFileError(
            file, f"holds {stack.dtype}; images are uint8 (0..255), or floats in [0,1]"
        )
    _check_order(file, stack)
    if stack.ndim == 3:
        stack = stack[np.newaxis]  # [1, h, w, c]
    if not stack.size:
        raise ImageFileError(file, f"has shape {stack.shape}: no pixels")
    return stack if stack.dtype == np.uint8 else unit_range(stack, file)


def _check_order(file: Path, stack: NDArray[Any]) -> None:
    if stack.ndim not in (3, 4):
        hint = "; a grey image x is x[..., None]" if stack.ndim == 2 else ""
        raise ImageFileError(
            file, f"has shape {stack.shape}; images are [h, w, c] or [n, h, w, c]{hint}"
        )
    first = stack.ndim - 3  # The axis of channels that come first.
    if stack.shape[-1] not in _CHANNELS and stack.shape[first] in _CHANNELS:
        raise ImageFileError(
            file,
            f"has shape {stack.shape}: channels first; images are [h, w, c] or [n, h, w, c], turn "
            f"it by np.moveaxis(x, {first}, -1)",
        )
