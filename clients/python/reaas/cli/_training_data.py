"""What a head is trained on: class folders, labelled images in an array file, or features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reaas
from reaas.cli._fit import Fit
from reaas.cli._images import ImageFile, NamedImage, Skipped, find_files, read_images
from reaas.cli._labels import numbered
from reaas.images import DecodeOptions, image_stack, pixels_digest, read_arrays


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Features [n, d] with labels [n] of the classes `names`."""

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    model: reaas.ModelInfo
    resize: str
    own_shape: bool
    """Whether every image had the encoder's own shape, for which its constants hold."""


@dataclass(frozen=True)
class LabelledFolder:
    """Images in class folders."""

    files: list[ImageFile]

    @classmethod
    def find(cls, folder: Path, skipped: Skipped) -> LabelledFolder:
        """The files below `folder`. Raises InvalidArgumentError for fewer than two classes."""
        files = []
        for file in find_files([folder]):
            if file.folder is None:
                skipped.add(file, "lies in no class folder")
            else:
                files.append(file)
        numbered(folder, [file.folder for file in files], len(files))
        return cls(files)

    def read(self, fit: Fit, options: DecodeOptions, skipped: Skipped) -> Iterator[NamedImage]:
        """The images as they will be sent; `folder` is the class."""
        return read_images(self.files, fit, options, skipped)


@dataclass(frozen=True, eq=False)
class LabelledArrays:
    """Images [n, h, w, c], or their features [n, d], with labels in one .npz file."""

    file: Path
    arrays: dict[str, NDArray[Any]]
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    images: NDArray[Any] | None
    """None: the file has features."""

    @classmethod
    def load(cls, file: Path) -> LabelledArrays:
        """Raises InvalidArgumentError, which names the file."""
        arrays = read_arrays(file)
        if "features" in arrays:
            features = arrays["features"]
            if features.ndim != 2 or features.dtype.kind != "f" or not features.size:
                got = f"{features.dtype} {features.shape}"
                raise reaas.InvalidArgumentError(
                    f"{file}: features is {got}; it must be floats [n, d]", field="features"
                )
            images, count = None, len(features)
        else:
            images = image_stack(file, {k: v for k, v in arrays.items() if k != "labels"})
            count = len(images)
        labels, names = numbered(file, arrays.get("labels"), count)
        return cls(file, arrays, labels, names, images)

    def read(self, fit: Fit) -> Iterator[NamedImage]:
        """The images as they will be sent; `folder` is the class."""
        assert self.images is not None
        for place, pixels in enumerate(self.images):
            name = f"{self.file.name}[{place}]"
            sent = fit(pixels, name)
            label = self.names[self.labels[place]]
            yield NamedImage(place, name, name, label, sent, pixels_digest(sent))

    def encoder(self, wanted: str | None) -> reaas.ModelRef:
        """The encoder of the features; `wanted`: the one asked for. DigestMismatchError."""
        said = str(self.arrays.get("model", ""))
        if not said:
            return reaas.ModelRef.parse(self._asked(wanted))
        ref = reaas.ModelRef.parse(said)
        if wanted is not None and not reaas.ModelRef.parse(wanted).admits(ref):
            raise reaas.DigestMismatchError(
                f"{self.file} has features of {ref}, not of {wanted}", field="model", got=said
            )
        return ref

    def data(self, model: reaas.ModelInfo) -> TrainingData:
        """The features that the file has."""
        features = self.arrays["features"].astype(np.float32)
        if features.shape[1] != model.feature_dim:
            raise reaas.InvalidArgumentError(
                f"{self.file}: features is {features.shape}; {model.ref.name} has "
                f"{model.feature_dim} a feature",
                field="features",
            )
        shapes = self.arrays.get("shapes")
        own = shapes is not None and bool(np.all(shapes == np.array(model.input.shape)))
        resize = str(self.arrays.get("resize", ""))
        return TrainingData(features, self.labels, self.names, model, resize, own)

    def _asked(self, wanted: str | None) -> str:
        if wanted is None:
            raise reaas.InvalidArgumentError(
                f"{self.file} does not say which encoder its features are of: name it by --model",
                field="model",
            )
        return wanted
