"""The images that a run learns from and is watched on."""

from __future__ import annotations

import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor


class ImagesError(ValueError):
    """The data can't be read; the message names the file and what is missing."""


@dataclass(frozen=True)
class LabelledImages:
    """Images `[n, 3, h, w]` uint8 with labels `[n]` int64; labels never enter pre-training."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def head(self, count: int) -> LabelledImages:
        """The first `count` of them (all, if there are fewer)."""
        return LabelledImages(self.images[:count], self.labels[:count])


def load_tiny_imagenet(directory: Path) -> LabelledImages:
    """Tiny-ImageNet's 100,000 train images at 32 x 32, from `tiny_imagenet.npz` in `directory`."""
    arrays = _open(directory / "tiny_imagenet.npz")
    data, offsets = arrays["train_jpeg"], arrays["train_jpeg_offsets"]
    tiles = [mosaic_tiles(data[start:end].tobytes()) for start, end in pairwise(offsets)]
    return _labelled(np.concatenate(tiles), arrays["train_labels"])


def load_tiny_imagenet_validation(directory: Path) -> LabelledImages:
    """2,000 of Tiny-ImageNet's validation images, to standardise features on."""
    arrays = _open(directory / "tiny_imagenet.npz")
    return _labelled(arrays["test_images"], arrays["test_labels"])


def mosaic_tiles(jpeg: bytes, tile: int = 32) -> NDArray[np.uint8]:
    """The tiles `[k, tile, tile, 3]` of one JPEG mosaic, row by row."""
    mosaic = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    rows, columns = mosaic.shape[0] // tile, mosaic.shape[1] // tile
    if (rows * tile, columns * tile) != mosaic.shape[:2]:
        raise ImagesError(f"a mosaic of {mosaic.shape[:2]} pixels is no grid of {tile}-pixel tiles")
    split = mosaic.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2)
    return split.reshape(rows * columns, tile, tile, 3)


def load_cifar10(directory: Path) -> tuple[LabelledImages, LabelledImages]:
    """CIFAR-10's train and test images, from `cifar10.npz` in `directory`."""
    arrays = _open(directory / "cifar10.npz")
    return (
        _labelled(arrays["train_images"], arrays["train_labels"]),
        _labelled(arrays["test_images"], arrays["test_labels"]),
    )


def _open(path: Path) -> dict[str, NDArray[np.generic]]:
    if not path.is_file():
        raise ImagesError(
            f"no file {path}; name the directory of the data with --data or REAAS_DATA"
        )
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def _labelled(images: NDArray[np.generic], labels: NDArray[np.generic]) -> LabelledImages:
    channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # [n, 3, h, w]
    return LabelledImages(
        torch.from_numpy(channels_first), torch.from_numpy(labels.astype(np.int64))
    )
