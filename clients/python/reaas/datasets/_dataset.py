"""What a data set is here, and how a part of it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Rows = NDArray[np.intp]


class DatasetError(ValueError):
    """A data set can't be read; the message names the directory or file and what is wrong."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images for training and testing a downstream classifier."""

    name: str
    train_images: Images
    """`[n, h, w, c]`, 0..255"""
    train_labels: Labels
    """`[n]`, 0..k-1"""
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    """k names"""


@dataclass(frozen=True, eq=False)
class Split:
    """The labels of all images of a split, and how to read some of the images.

    Labels come first, so that a small sample of a large data set decodes only its own images.
    """

    labels: Labels
    read: Callable[[Rows], Images]


@dataclass(frozen=True, eq=False)
class Source:
    """A data set as it lies on the disk."""

    train: Split
    test: Split
    class_names: tuple[str, ...]


def stratified_rows(
    split: str, labels: Labels, size: int | None, generator: np.random.Generator
) -> Rows:
    """`size` rows (all, in their order, if None), each class by its share, in random order.

    Shares are rounded by largest remainder. Raises `DatasetError` if there are not enough.
    """
    if size is None:
        return np.arange(len(labels))
    if not 1 <= size <= len(labels):
        raise DatasetError(f"{split}_size: got {size}, the data set has 1..{len(labels)}")
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * size / len(labels)
    quota = np.floor(exact).astype(np.int64)
    largest = np.argsort(quota - exact, kind="stable")[: size - quota.sum()]
    quota[largest] += 1
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:count]
        for label, count in zip(classes, quota, strict=True)
    ]
    return generator.permutation(np.concatenate(chosen))


def in_memory(images: Images, labels: NDArray[np.integer], origin: object) -> Split:
    """A split of arrays; `origin` names them in the error if they can't be labelled images."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DatasetError(
            f"{origin}: images are {images.dtype} {images.shape}, expected uint8 [n, h, w, 1 or 3]"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise DatasetError(
            f"{origin}: labels are {labels.dtype} {labels.shape}, expected {len(images)} integers"
        )
    return Split(labels.astype(np.int64), lambda rows: images[rows])
