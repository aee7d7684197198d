"""Image collections that hold no labels, or too much for one array: folders, STL-10, CIFAR-100."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from reaas.images import (
    SUFFIXES,
    DecodeOptions,
    ImageFileError,
    as_rgb8,
    class_of,
    image_files,
    read_image,
)

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
UNKNOWN = -1
"""The label of an image that has none."""
_CIFAR_RECORD, _STL_IMAGE, _STL_SIDE = 2 + 3 * 32 * 32, 3 * 96 * 96, 96
_OPTIONS = DecodeOptions(background=(255, 255, 255), first_frame=True)
"""A picture to learn from need only be a likely one: white, as a page, shows through."""
_CHUNK = 2_000
"""STL-10 images in memory at their full size: 55 MB instead of 2.8 GB."""


class ImagesError(ValueError):
    """The data can't be read; the message names the file and what is wrong with it."""


def read_folder(directory: Path, side: int) -> tuple[Pixels, Labels]:
    """Every image file below a folder, `[n, side, side, 3]`, in the order of their names.

    Where all lie in sub-folders, the first folder's place in the alphabet is the label.
    """
    files = image_files(directory)
    if not files:
        raise ImagesError(f"{directory} holds no image files ({', '.join(sorted(SUFFIXES))})")
    folders = [class_of(file, directory) for file in files]
    labelled = None not in folders
    names = sorted({folder for folder in folders if folder is not None})
    labels = [names.index(folder) if labelled and folder else UNKNOWN for folder in folders]
    return np.stack([_decoded(file, side) for file in files]), np.array(labels, np.int64)


def read_cifar100(directory: Path) -> tuple[Pixels, Labels]:
    """CIFAR-100's train images with their fine labels, from `train.bin` (binary version)."""
    path = _existing(directory, "cifar-100-binary/train.bin", "train.bin")
    data = np.fromfile(path, np.uint8)
    if data.size == 0 or data.size % _CIFAR_RECORD:
        raise ImagesError(f"{path}: {data.size} bytes are no whole number of 3,074-byte records")
    records = data.reshape(-1, _CIFAR_RECORD)
    return records[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 1].astype(
        np.int64
    )


def read_stl10_unlabelled(directory: Path) -> Iterator[Pixels]:
    """STL-10's 100,000 images without labels, `[n, 96, 96, 3]` at a time."""
    path = _existing(directory, "stl10_binary/unlabeled_X.bin", "unlabeled_X.bin")
    size = path.stat().st_size
    if size == 0 or size % _STL_IMAGE:
        raise ImagesError(f"{path}: {size} bytes are no whole number of 27,648-byte images")
    # Column by column: STL-10 was written by MATLAB.
    images = np.memmap(path, np.uint8, "r").reshape(-1, 3, _STL_SIDE, _STL_SIDE)
    for start in range(0, len(images), _CHUNK):
        yield np.ascontiguousarray(images[start : start + _CHUNK].transpose(0, 3, 2, 1))


def _existing(directory: Path, *names: str) -> Path:
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise ImagesError(f"{directory} holds none of {', '.join(names)}")


def _decoded(path: Path, side: int) -> Pixels:
    """The middle square of an image file, `[side, side, 3]`."""
    try:
        colour = Image.fromarray(as_rgb8(read_image(path, _OPTIONS)))
    except ImageFileError as error:
        raise ImagesError(f"{path} can't be read as an image: {error.problem}") from error
    short = min(colour.size)
    left, top = (colour.width - short) // 2, (colour.height - short) // 2
    square = colour.crop((left, top, left + short, top + short))
    return np.asarray(square.resize((side, side), Image.Resampling.BOX), np.uint8)
