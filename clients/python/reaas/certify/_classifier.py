"""The client's own classifier on feature vectors: fully connected layers with ReLU between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._errors import InvalidArgumentError

Float = NDArray[np.float64]
_ABOUT = ("class_names", "encoder", "resize")


@dataclass(frozen=True, eq=False)
class DownstreamClassifier:
    """`g(z) = W_L relu(... relu(W_1 z + b_1) ...) + b_L`, evaluated in float64.

    `weights[i]` is `[out, in]`, `biases[i]` is `[out]`; one layer makes a linear head. Anything
    that converts to such arrays is accepted and checked; `InvalidArgumentError` names the layer.
    """

    weights: tuple[Float, ...]
    biases: tuple[Float, ...]
    class_names: tuple[str, ...] = field(default=(), kw_only=True)
    """One for each class; empty: numbers."""
    encoder: str = field(default="", kw_only=True)
    """`name@version@digest` of the encoder of the features that it was trained on; empty: unknown.
    On features of another encoder its labels, and certificates of them, mean nothing."""
    resize: str = field(default="", kw_only=True)
    """How the training images were resized by the client before they were sent; empty: not."""

    def __post_init__(self) -> None:
        weights = _arrays("weights", self.weights, ndim=2)
        biases = _arrays("biases", self.biases, ndim=1)
        _check_layers(weights, biases)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "biases", biases)
        if self.class_names and len(set(self.class_names)) != self.classes:
            raise InvalidArgumentError(
                "class_names", f"got {self.class_names}, expected {self.classes} different names"
            )

    @property
    def feature_dim(self) -> int:
        """d, the length of the feature vectors."""
        return int(self.weights[0].shape[1])

    @property
    def classes(self) -> int:
        """k, the number of classes."""
        return len(self.biases[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each class: `class_names`, or numbers from 0."""
        return self.class_names or tuple(map(str, range(self.classes)))

    @property
    def encoder_digest(self) -> str:
        """The digest in `encoder`; empty where it is unknown."""
        return self.encoder.partition("@")[2].partition("@")[2]

    @property
    def is_linear(self) -> bool:
        """True if there is no hidden layer."""
        return len(self.weights) == 1

    def logits(self, features: ArrayLike) -> Float:
        """`[n, k]` of features `[n, d]`."""
        hidden = self.check_features(features)  # [n, d]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight.T + bias, 0.0)  # [n, h]
        return np.asarray(hidden @ self.weights[-1].T + self.biases[-1])  # [n, k]

    def predict(self, features: ArrayLike) -> NDArray[np.int64]:
        """Labels `[n]`; of equal logits the lowest class wins."""
        return np.asarray(np.argmax(self.logits(features), axis=1), np.int64)

    def check_features(self, features: ArrayLike) -> Float:
        """Features as float64 `[n, d]`; raises `InvalidArgumentError` if they can't be used."""
        array = np.asarray(features)
        if array.ndim != 2 or array.shape[1] != self.feature_dim:
            raise InvalidArgumentError(
                "features", f"got shape {array.shape}, expected [n, {self.feature_dim}]"
            )
        array = _as_float("features", array)
        broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if len(broken):
            raise InvalidArgumentError("features", f"row {broken[0]} holds NaN or infinity")
        return array

    def save(self, path: Path | str) -> None:
        """Write the layers to a `.npz` file: arrays `weight_0`, `bias_0`, `weight_1`, ..., and
        `class_names`, `encoder` and `resize` where they are known."""
        layers = enumerate(zip(self.weights, self.biases, strict=True))
        arrays: dict[str, NDArray[np.generic]] = {
            key: np.array(value) for key in _ABOUT if (value := getattr(self, key))
        }
        for i, (weight, bias) in layers:
            arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
        with Path(path).open("wb") as file:  # numpy would append ".npz" to a name
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote; raises `InvalidArgumentError` if the file is something else."""
        try:
            with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError, EOFError) as error:
            raise InvalidArgumentError("path", f"{path} is no classifier file: {error}") from error
        about = {key: arrays.pop(key) for key in _ABOUT if key in arrays}
        depth = len(arrays) // 2
        missing = {f"{kind}_{i}" for i in range(depth) for kind in ("weight", "bias")} - set(arrays)
        if not arrays or missing or len(arrays) % 2:
            raise InvalidArgumentError(
                "path", f"{path} holds the arrays {sorted(arrays)}, expected weight_0, bias_0, ..."
            )
        return cls(
            tuple(arrays[f"weight_{i}"] for i in range(depth)),
            tuple(arrays[f"bias_{i}"] for i in range(depth)),
            class_names=tuple(map(str, about.get("class_names", ()))),
            encoder=str(about.get("encoder", "")),
            resize=str(about.get("resize", "")),
        )


def _arrays(field: str, values: Sequence[ArrayLike], ndim: int) -> tuple[Float, ...]:
    arrays = []
    for i, value in enumerate(values):
        name = f"{field}[{i}]"
        array = _as_float(name, np.asarray(value)).copy()
        if array.ndim != ndim or array.size == 0:
            raise InvalidArgumentError(name, f"got shape {array.shape}, expected {ndim} dimensions")
        if not np.isfinite(array).all():
            raise InvalidArgumentError(name, "holds NaN or infinity")
        array.flags.writeable = False
        arrays.append(array)
    return tuple(arrays)


def _as_float(field: str, array: NDArray[np.generic]) -> Float:
    if array.dtype.kind not in "fiu":
        raise InvalidArgumentError(field, f"got dtype {array.dtype}, expected real numbers")
    return array.astype(np.float64)


def _check_layers(weights: tuple[Float, ...], biases: tuple[Float, ...]) -> None:
    if not weights or len(weights) != len(biases):
        raise InvalidArgumentError(
            "biases", f"got {len(weights)} weights and {len(biases)} biases, expected pairs"
        )
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if len(weight) != len(bias):
            raise InvalidArgumentError(
                f"biases[{i}]", f"got {len(bias)} entries for {len(weight)} rows of weights"
            )
        if i and weight.shape[1] != len(weights[i - 1]):
            raise InvalidArgumentError(
                f"weights[{i}]",
                f"takes {weight.shape[1]} values, the layer before gives {len(weights[i - 1])}",
            )
    if len(biases[-1]) < 2:
        raise InvalidArgumentError("weights", f"got {len(biases[-1])} class, expected at least 2")
