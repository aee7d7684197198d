"""The file as it is, in ONNX Runtime: what a rewritten one is compared with."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from reaas_runtime.inference import RuntimeRefusalError, first_line, open_session

from reaas_pretrain.foreign.images import ForeignInput
from reaas_pretrain.foreign.wishes import Wishes
from reaas_pretrain.versions import PublishError


class OriginalEncoder:
    """Features of images [n, C, H, W] in [0, 1], [n, d], by the graph that the file holds."""

    def __init__(
        self, model: onnx.ModelProto, images: ForeignInput, output: str, wishes: Wishes
    ) -> None:
        self._images, self._output, self._wishes = images, output, wishes
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        if output not in [value.name for value in copy.graph.output]:
            copy.graph.output.append(onnx.ValueInfoProto(name=output))
        try:
            self._session = open_session(copy.SerializeToString())
        except RuntimeRefusalError as error:
            raise PublishError(f"ONNX Runtime refuses the file: {error}") from error

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.generic]:
        """Of one image after the other, as often as the file's own batch says."""
        return np.stack([self._feature(image) for image in images])

    def _feature(self, image: NDArray[np.float32]) -> NDArray[np.generic]:
        scaled = image[None] * np.float32(255) if self._images.integers else image[None]
        given = self._images.arranged(self._wishes.applied(scaled))
        batch = np.repeat(given, self._images.batch or 1, axis=0)
        try:
            [found] = self._session.run([self._output], {self._images.name: batch})
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            raise PublishError(f"ONNX Runtime fails on the file: {first_line(error)}") from error
        if not (isinstance(found, np.ndarray) and found.ndim and len(found) == len(batch)):
            raise PublishError(f"output {self._output!r} does not have one feature an image")
        feature: NDArray[np.generic] = found[0].reshape(-1)
        return feature
