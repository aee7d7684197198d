"""The images that a run learns from and is watched on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from reaas.datasets import NAMES, Dataset, DatasetError, load
from torch import Tensor
from torch.nn.functional import interpolate

from reaas_pretrain.image_files import (
    UNKNOWN,
    ImagesError,
    Labels,
    Pixels,
    read_cifar100,
    read_folder,
    read_stl10_unlabelled,
)

SOURCES = (*NAMES, "cifar100", "stl10_unlabelled")
"""Data sets by name; a path of a folder of images or of a `.npz` is a source too."""
_CHUNK = 2_000
"""Images resized at once, as floats; also enough of them to stand for all."""


@dataclass(frozen=True)
class LabelledImages:
    """Images `[n, 3, h, w]` uint8 with labels `[n]` int64, -1 where there is none."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def head(self, count: int) -> LabelledImages:
        """The first `count` of them (all, if there are fewer)."""
        return LabelledImages(self.images[:count], self.labels[:count])


def training_images(source: str, directory: Path, side: int) -> LabelledImages:
    """The train images of a source (see `SOURCES`) at `side` x `side` pixels.

    `directory` holds the files of the named data sets. Raises `ImagesError` naming the file that
    is missing or can't be read.
    """
    if source == "cifar100" and not (directory / "cifar100.npz").is_file():
        pixels, labels = read_cifar100(directory)
        return _labelled([pixels], labels, side)
    if source == "cifar100":
        return _labelled(*_npz(directory / "cifar100.npz"), side)
    if source == "stl10_unlabelled":
        return _labelled(read_stl10_unlabelled(directory), None, side)
    if source in NAMES:
        data = _dataset(source, directory)
        return _labelled([data.train_images], data.train_labels, side)
    path = Path(source)
    if path.is_dir():
        pixels, labels = read_folder(path, side)
        return _labelled([pixels], labels, side)
    if path.suffix == ".npz":
        return _labelled(*_npz(path), side)
    raise ImagesError(
        f"source: got {source!r}, expected one of {', '.join(SOURCES)}, a folder of image files"
        " or a .npz file"
    )


def typical_images(source: str, directory: Path, side: int) -> Tensor:
    """Images `[n, 3, side, side]` uint8 of the kind that a source holds: its test images, or, where
    it has none, some of its train images, always the same ones."""
    if source in NAMES:
        return labelled_images(source, directory, side)[1].images
    images = training_images(source, directory, side).images
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:_CHUNK]]


def labelled_images(name: str, directory: Path, side: int) -> tuple[LabelledImages, LabelledImages]:
    """Train and test images of a labelled data set at `side` x `side` pixels."""
    data = _dataset(name, directory)
    return (
        _labelled([data.train_images], data.train_labels, side),
        _labelled([data.test_images], data.test_labels, side),
    )


def _dataset(name: str, directory: Path) -> Dataset:
    try:
        return load(name, directory)
    except DatasetError as error:
        raise ImagesError(f"{error}; name the directory with --data or REAAS_DATA") from error


def _npz(path: Path) -> tuple[list[Pixels], Labels | None]:
    """`train_images` (or `images`) `[n, h, w, 1 or 3]` uint8 and their labels, if there are any."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ImagesError(f"{path} can't be read as .npz: {error}") from error
    images = arrays.get("train_images", arrays.get("images"))
    if images is None:
        raise ImagesError(f"{path} has no array train_images or images, only {', '.join(arrays)}")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ImagesError(
            f"{path}: images are {images.dtype} {images.shape}, expected uint8 [n, h, w, 1 or 3]"
        )
    labels = arrays.get("train_labels", arrays.get("labels"))
    if labels is not None and labels.shape != images.shape[:1]:
        raise ImagesError(
            f"{path}: labels are {labels.shape}, expected one an image: {len(images)}"
        )
    return [images], None if labels is None else labels.astype(np.int64)


def _labelled(parts: Iterable[Pixels], labels: Labels | None, side: int) -> LabelledImages:
    images = torch.cat([_fitted(part, side) for part in parts])
    known = np.full(len(images), UNKNOWN) if labels is None else labels
    return LabelledImages(images, torch.from_numpy(np.ascontiguousarray(known)).long())


def _fitted(pixels: Pixels, side: int) -> Tensor:
    """`[n, h, w, 1 or 3]` -> `[n, 3, side, side]` uint8: middle square, resized, grey as RGB."""
    height, width = pixels.shape[1:3]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels[:, top : top + short, left : left + short].transpose(0, 3, 1, 2)
    images = torch.from_numpy(np.ascontiguousarray(square)).expand(-1, 3, -1, -1)
    if short == side:
        return images.contiguous()
    return torch.cat([_resized(part, side) for part in torch.split(images, _CHUNK)])


def _resized(images: Tensor, side: int) -> Tensor:
    smaller = interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)
    return smaller.round().clamp(0, 255).to(torch.uint8)
