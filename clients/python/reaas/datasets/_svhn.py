"""SVHN, cropped digits: `train_32x32.mat` and `test_32x32.mat`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ._dataset import DatasetError, Source, Split, in_memory

CLASS_NAMES = tuple("0123456789")


def read_mat(marker: Path) -> Source:
    """Both splits, from the directory of `marker`; digit 0, label 10 in the files, is class 0."""
    return Source(_split(marker.with_name("train_32x32.mat")), _split(marker), CLASS_NAMES)


def _split(path: Path) -> Split:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    if not path.is_file():
        raise DatasetError(f"{path} is missing")
    try:
        arrays = loadmat(path, variable_names=["X", "y"])
        images, labels = arrays["X"], np.asarray(arrays["y"], np.int64).ravel()
    except (MatReadError, KeyError, ValueError, TypeError, OSError) as error:
        raise DatasetError(f"{path} is no SVHN file: {error}") from error
    if images.ndim != 4 or not len(labels) or labels.min() < 0 or labels.max() > 10:
        raise DatasetError(f"{path}: X is {images.shape}, expected [32, 32, 3, n], y in 1..10")
    return in_memory(np.moveaxis(images, -1, 0), labels % 10, path)  # X is [h, w, 3, n]
