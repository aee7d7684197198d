"""CIFAR-10 in its two published forms: Python pickles and binary batches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._dataset import DatasetError, Source, Split, in_memory

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_PIXELS = 3 * 32 * 32


def read_python_batches(marker: Path) -> Source:
    """`data_batch_1` to `_5` and `test_batch` (pickles), in the directory of `marker`."""
    train = [_unpickle(marker.with_name(name)) for name in _TRAIN]
    return Source(_joined(train, marker.parent), _joined([_unpickle(marker)], marker), CLASS_NAMES)


def read_binary_batches(marker: Path) -> Source:
    """`data_batch_1.bin` to `_5.bin` and `test_batch.bin`, in the directory of `marker`."""
    train = [_records(marker.with_name(f"{name}.bin")) for name in _TRAIN]
    return Source(_joined(train, marker.parent), _joined([_records(marker)], marker), CLASS_NAMES)


Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _joined(batches: list[Batch], origin: Path) -> Split:
    pixels = np.concatenate([batch[0] for batch in batches])  # [n, 3072], plane by plane
    labels = np.concatenate([batch[1] for batch in batches])
    if labels.min() < 0 or labels.max() >= len(CLASS_NAMES):
        raise DatasetError(f"{origin}: labels {labels.min()}..{labels.max()}, expected 0..9")
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return in_memory(images, labels, origin)


def _records(path: Path) -> Batch:
    data = np.frombuffer(_bytes(path), np.uint8)
    if data.size == 0 or data.size % (1 + _PIXELS):
        raise DatasetError(f"{path}: {data.size} bytes are no whole number of 3,073-byte records")
    records = data.reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _unpickle(path: Path) -> Batch:
    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], np.int64)
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path} is no CIFAR-10 batch: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise DatasetError(f"{path}: data is {pixels.dtype} {pixels.shape}, expected [n, 3072]")
    return pixels, labels


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error


class _ArraysOnly(pickle.Unpickler):
    """A pickle can call anything; this one only rebuilds numpy arrays, and refuses the rest."""

    # what numpy itself pickles an array to: the name has moved between numpy versions
    _RECONSTRUCT: Any = np.zeros(0).__reduce__()[0]
    _ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # bytes in a protocol-2 pickle written by Python 3
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The callable of that name, if an array needs it."""
        if name == "_reconstruct" and module in (
            "numpy.core.multiarray",
            "numpy._core.multiarray",
        ):
            return self._RECONSTRUCT
        if (module, name) in self._ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
