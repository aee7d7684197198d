"""The data sets by name, and the files that each may lie in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import _cifar10, _stl10, _svhn, _tiny_imagenet
from ._dataset import Dataset, DatasetError, Source, Split, stratified_rows
from ._digits import read_digits
from ._npz import read_npz

DIRECTORY_VARIABLE = "REAAS_DATA"
"""The environment variable that names the directory of the data sets."""

Reader = Callable[[Path], Source]

_FILES: dict[str, dict[str, Reader]] = {
    "cifar10": {
        "cifar-10-batches-py/test_batch": _cifar10.read_python_batches,
        "test_batch": _cifar10.read_python_batches,
        "cifar-10-batches-bin/test_batch.bin": _cifar10.read_binary_batches,
        "test_batch.bin": _cifar10.read_binary_batches,
        "cifar10.npz": read_npz,
    },
    "gtsrb": {"gtsrb.npz": read_npz},
    "svhn": {
        "svhn/test_32x32.mat": _svhn.read_mat,
        "test_32x32.mat": _svhn.read_mat,
        "svhn.npz": read_npz,
        "svhn_small.npz": read_npz,
    },
    "stl10": {
        "stl10_binary/test_X.bin": _stl10.read_binary,
        "test_X.bin": _stl10.read_binary,
        "stl10.npz": read_npz,
    },
    "tiny_imagenet": {
        "tiny-imagenet-200/wnids.txt": _tiny_imagenet.read_folders,
        "wnids.txt": _tiny_imagenet.read_folders,
        "tiny_imagenet.npz": read_npz,
    },
}
"""For each data set the file that shows a layout to be there, and its reader, best first."""

NAMES = ("digits", *_FILES)
"""The data sets that `load` knows."""


def load(
    name: str,
    root: Path | str | None = None,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 0,
) -> Dataset:
    """A data set, or a part of it with the classes in proportion (sizes None: all of it).

    `root` is the directory of the files (default: the environment's `REAAS_DATA`); `digits`
    needs none. Raises `DatasetError`, which names the directory and the files looked for.
    """
    source = read_digits() if name == "digits" else _read(name, _directory(name, root))
    streams = np.random.SeedSequence(seed).spawn(2)
    train = _draw("train", source.train, train_size, streams[0])
    test = _draw("test", source.test, test_size, streams[1])
    return Dataset(name, *train, *test, source.class_names)


def _directory(name: str, root: Path | str | None) -> Path:
    if name not in _FILES:
        raise DatasetError(f"name: got {name!r}, expected one of {', '.join(NAMES)}")
    chosen = root if root is not None else os.environ.get(DIRECTORY_VARIABLE)
    if not chosen:
        raise DatasetError(f"{name}: name the directory of its files, or set {DIRECTORY_VARIABLE}")
    directory = Path(chosen)
    if not directory.is_dir():
        raise DatasetError(f"{name}: there is no directory {directory}")
    return directory


def _read(name: str, directory: Path) -> Source:
    for file, read in _FILES[name].items():
        if (directory / file).is_file():
            return read(directory / file)
    raise DatasetError(f"{name}: {directory} holds none of {', '.join(_FILES[name])}")


def _draw(
    split: str, source: Split, size: int | None, stream: np.random.SeedSequence
) -> tuple[np.ndarray, np.ndarray]:
    rows = stratified_rows(split, source.labels, size, np.random.default_rng(stream))
    return np.ascontiguousarray(source.read(rows)), source.labels[rows]
