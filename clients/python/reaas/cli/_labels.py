"""Labels of any type as class numbers and names; a part that is held out of training."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

import reaas

_LEAST_TO_TRAIN = 2
"""Images of a class that stay for training: one to learn from, one to choose the head by."""


def numbered(origin: object, values: Any, count: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels [count] of numbers, words or truth values as 0..k-1, and the k names.

    Raises InvalidArgumentError, which names `origin`.
    """
    if values is None:
        _refuse(origin, "none", f"it must be numbers or words, one for each of {count} images")
    labels = np.asarray(values)
    if labels.shape != (count,) or labels.dtype.kind not in "iufbUS":
        got = f"{labels.dtype} {labels.shape}"
        _refuse(origin, got, f"it must be numbers or words, one for each of {count} images")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or np.any(labels != np.rint(labels)):
            _refuse(origin, f"{labels.dtype} with fractions", "classes are whole numbers or words")
        labels = labels.astype(np.int64)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    classes, numbers = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        _refuse(origin, f"{len(classes)} class", "there must be at least 2 classes")
    return numbers.astype(np.int64), tuple(map(str, classes.tolist()))


def held_out_rows(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows [n] are for the score: `share` of each class, none of one that has few images."""
    random, held = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        wanted = max(1, round(share * len(rows))) if share else 0
        held[rows[: max(0, min(wanted, len(rows) - _LEAST_TO_TRAIN))]] = True
    return held


def _refuse(origin: object, got: str, rule: str) -> NoReturn:
    raise reaas.InvalidArgumentError(f"{origin}: labels is {got}; {rule}", field="labels", got=got)
