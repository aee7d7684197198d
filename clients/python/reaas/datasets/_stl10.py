"""STL-10 in its published binary form: `train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ._dataset import DatasetError, Images, Rows, Source, Split

CLASS_NAMES = (
    "airplane",
    "bird",
    "car",
    "cat",
    "deer",
    "dog",
    "horse",
    "monkey",
    "ship",
    "truck",
)
_SHAPE = (3, 96, 96)


def read_binary(marker: Path) -> Source:
    """Both splits, from the directory of `marker`; images stay on the disk until drawn."""
    return Source(_split(marker.parent, "train"), _split(marker.parent, "test"), CLASS_NAMES)


def _split(directory: Path, name: str) -> Split:
    pixels_file, labels_file = directory / f"{name}_X.bin", directory / f"{name}_y.bin"
    for path in (pixels_file, labels_file):
        if not path.is_file():
            raise DatasetError(f"{path} is missing")
    labels = np.fromfile(labels_file, np.uint8).astype(np.int64) - 1  # 1..10 in the file
    size, expected = pixels_file.stat().st_size, len(labels) * int(np.prod(_SHAPE))
    if not len(labels) or size != expected:
        raise DatasetError(f"{pixels_file}: {size} bytes for {len(labels)} labels, not {expected}")
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise DatasetError(f"{labels_file}: labels must be 1..10")

    def read(rows: Rows) -> Images:
        stored = np.memmap(pixels_file, np.uint8, "r", shape=(len(labels), *_SHAPE))
        return np.asarray(stored[rows]).transpose(0, 3, 2, 1)  # stored column by column

    return Split(labels, read)
