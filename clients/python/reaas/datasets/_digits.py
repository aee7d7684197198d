"""scikit-learn's hand-written digits: 1,797 grey images of 8 x 8, nothing to download."""

from __future__ import annotations

import numpy as np

from ._dataset import DatasetError, Source, in_memory, stratified_rows

_TEST = 450
"""A quarter; the split is the same for every seed, so that no test image is ever trained on."""


def read_digits() -> Source:
    """All images as uint8 `[n, 8, 8, 1]`: grey values 0..16 scaled to 0..255."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DatasetError(
            "digits: the images come with scikit-learn (pip install 'reaas[compare]')"
        ) from error
    bunch = load_digits()
    images = np.rint(bunch.images[..., None] * (255 / 16)).astype(np.uint8)  # [n, 8, 8, 1]
    labels = bunch.target.astype(np.int64)
    test = stratified_rows("test", labels, _TEST, np.random.default_rng(0))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Source(
        in_memory(images[train], labels[train], "digits"),
        in_memory(images[test], labels[test], "digits"),
        tuple(str(name) for name in bunch.target_names),
    )
