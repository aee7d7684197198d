"""`.npz` files with `train_images`, `train_labels`, `test_images`, `test_labels`."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ._dataset import DatasetError, Images, Labels, Rows, Source, Split, in_memory
from ._pillow import decode

_TILE = 32


def read_npz(path: Path) -> Source:
    """The images and labels of a `.npz`; `class_names` are numbers if the file has none.

    Instead of `train_images` it may hold `train_jpeg` and `train_jpeg_offsets`: one JPEG mosaic
    of 32 x 32 tiles for each class, row by row, in the order of `train_labels`.
    """
    arrays = _open(path)
    test = in_memory(_array(arrays, "test_images", path), _array(arrays, "test_labels", path), path)
    labels = _array(arrays, "train_labels", path)
    if "train_jpeg" in arrays:
        offsets = _array(arrays, "train_jpeg_offsets", path)
        train = _mosaics(arrays["train_jpeg"], offsets, labels.astype(np.int64), path)
    else:
        train = in_memory(_array(arrays, "train_images", path), labels, path)
    return Source(train, test, _class_names(arrays, train, test, path))


def _open(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} can't be read as .npz: {error}") from error


def _array(arrays: dict[str, NDArray[np.generic]], key: str, path: Path) -> NDArray[np.uint8]:
    if key not in arrays:
        raise DatasetError(f"{path} has no array {key}, only {', '.join(sorted(arrays))}")
    return arrays[key]  # type: ignore[return-value]  # dtype is checked by `in_memory`


def _class_names(
    arrays: dict[str, NDArray[np.generic]], train: Split, test: Split, path: Path
) -> tuple[str, ...]:
    labels = np.concatenate([train.labels, test.labels])
    if labels.min() < 0:
        raise DatasetError(f"{path}: labels must be 0..k-1, got {labels.min()}")
    classes = int(labels.max()) + 1
    names = tuple(str(name) for name in arrays.get("class_names", np.arange(classes)))
    if len(names) < classes:
        raise DatasetError(f"{path}: {len(names)} class_names for labels up to {classes - 1}")
    return names


def _mosaics(
    jpeg: NDArray[np.generic], offsets: NDArray[np.integer], labels: Labels, path: Path
) -> Split:
    class_starts = np.searchsorted(labels, np.arange(len(offsets)))  # row of each class's first
    if np.any(np.diff(labels) < 0) or class_starts[-1] != len(labels):
        raise DatasetError(f"{path}: train_labels must be sorted, one mosaic for each class")

    def read(rows: Rows) -> Images:
        images = np.zeros((len(rows), _TILE, _TILE, 3), np.uint8)
        for label in np.unique(labels[rows]):
            data = jpeg[offsets[label] : offsets[label + 1]].tobytes()
            tiles = _tiles(decode(io.BytesIO(data), f"{path}, mosaic {label}"))
            mine = np.flatnonzero(labels[rows] == label)
            images[mine] = tiles[rows[mine] - class_starts[label]]
        return images

    return Split(labels, read)


def _tiles(mosaic: Images) -> Images:
    rows, columns = mosaic.shape[0] // _TILE, mosaic.shape[1] // _TILE
    split = mosaic.reshape(rows, _TILE, columns, _TILE, 3).swapaxes(1, 2)
    return split.reshape(rows * columns, _TILE, _TILE, 3)
