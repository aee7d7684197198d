"""One encoder in ONNX Runtime, run so that an image's feature never depends on its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray
from onnxruntime import InferenceSession
from reaas_runtime import DomainError, ModelEntry, Reason
from reaas_runtime.inference import (
    CUDA,
    RuntimeRefusalError,
    cuda_available,
    open_session,
    runtime_version,
)
from reaas_runtime.recorded import recorded_images

from reaas_encoder.batching import bit_exact_sizes, split_batch

Device = Literal["auto", "cpu", "cuda"]
# Digits of recorded features.
_RECORDED = 1e-11

_log = structlog.get_logger("reaas.encoder")


class EncoderSession:
    """A warm encoder: float32 [n, C, H, W] -> float32 [n, d].

    `encode` takes batches made by `split`. The batch sizes in use are those of `batch_sizes` at
    which a probe found every feature equal, bit for bit, to its feature in the largest one.
    """

    def __init__(self, entry: ModelEntry, batch_sizes: Sequence[int], device: Device) -> None:
        self._manifest = entry.manifest
        self._session = self._open(entry.onnx, cuda=device != "cpu" and cuda_available())
        self.providers: list[str] = self._session.get_providers()
        if device == "cuda" and self.providers[0] != CUDA:
            raise self._broken(f"device is cuda, but ONNX Runtime runs it on {self.providers}")
        self._check_interface()
        self._check_recorded()
        self.sizes = bit_exact_sizes(self._run, self._input_shape(), batch_sizes)
        ref = entry.ref
        _log.info(
            "encoder warm",
            model=ref.name,
            version=ref.version,
            provider=self.providers[0],
            batch_sizes=self.sizes,
            dropped_sizes=sorted(set(batch_sizes) - set(self.sizes)),
        )

    def split(self, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Cut [n, C, H, W] into batches of the sizes in use; the last one may need padding."""
        return split_batch(batch, self.sizes)

    def encode(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features [n, d] of one batch from `split`. DomainError MODEL_BROKEN if not finite."""
        size = min(s for s in self.sizes if s >= len(batch))
        padding = [(0, size - len(batch)), *[(0, 0)] * (batch.ndim - 1)]
        features = self._run(np.pad(batch, padding))[: len(batch)]  # [n, d]
        if not np.isfinite(features).all():
            raise self._broken("an answer of it is not finite")
        return features

    def _open(self, onnx: bytes, *, cuda: bool) -> InferenceSession:
        try:
            session = open_session(onnx, cuda=cuda)
        except RuntimeRefusalError as error:
            raise self._broken(f"ONNX Runtime refuses model.onnx: {error}") from error
        if cuda and session.get_providers()[0] != CUDA:
            _log.warning("CUDA is there but not used", providers=session.get_providers())
        return session

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        [features] = self._session.run(None, {self._session.get_inputs()[0].name: batch})
        return features  # type: ignore[no-any-return]

    def _input_shape(self) -> tuple[int, int, int]:
        height, width, channels = self._manifest.input.shape
        return channels, height, width

    def _check_interface(self) -> None:
        """The graph must take and give what the manifest says. DomainError MODEL_BROKEN."""
        found = [
            [(value.type, value.shape[1:]) for value in values]
            for values in (self._session.get_inputs(), self._session.get_outputs())
        ]
        wanted = [
            [("tensor(float)", list(self._input_shape()))],
            [("tensor(float)", [self._manifest.feature.dim])],
        ]
        if found != wanted:
            raise self._broken(f"the graph's input and output are {found}, not {wanted}")

    def _check_recorded(self) -> None:
        """This runtime must compute what was certified, where the manifest says what that is.

        DomainError MODEL_BROKEN. The images alone and together: rounding is within the error in
        any order.
        """
        checked = self._manifest.checked
        if checked is None:
            return
        images = recorded_images(self._input_shape())[: len(checked.probes)]
        served = [self._run(image[None])[0] for image in images]
        served += list(self._run(images)) if len(images) else []
        for feature, probe in zip(served, checked.probes * 2, strict=True):
            exact = np.asarray(probe.features)
            apart = np.inf
            if feature.shape == exact.shape:
                apart = float(np.linalg.norm(feature.astype(np.float64) - exact))
            if not apart <= probe.error * (1 + _RECORDED) + _RECORDED * np.linalg.norm(exact):
                raise self._broken(
                    f"{runtime_version()} serves other features than were certified (checked with "
                    f"{checked.runtime}): {apart:.3g} apart, rounding explains {probe.error:.3g}"
                )

    def _broken(self, why: str) -> DomainError:
        name, version = self._manifest.name, self._manifest.version
        return DomainError(
            Reason.MODEL_BROKEN,
            f"model {name!r} version {version!r} is broken: {why}",
            field="model",
        )
