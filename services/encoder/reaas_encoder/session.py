"""One encoder in ONNX Runtime, run so that an image's feature never depends on its batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnxruntime as ort
import structlog
from numpy.typing import NDArray
from reaas_runtime import DomainError, ModelEntry, Reason

from reaas_encoder.batching import bit_exact_sizes, split_batch

Device = Literal["auto", "cpu", "cuda"]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# TF32 keeps 10 bits of mantissa, and a searched cuDNN algorithm may be Winograd: neither is inside
# the float32 error that the manifest certifies. DEFAULT is the implicit GEMM.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}

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

    def _open(self, onnx: bytes, *, cuda: bool) -> ort.InferenceSession:
        providers = [(CUDA, _CUDA_OPTIONS), CPU] if cuda else [CPU]
        try:
            session = ort.InferenceSession(onnx, _session_options(), providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            why = str(error).splitlines()[0]
            raise self._broken(f"ONNX Runtime refuses model.onnx: {why}") from error
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

    def _broken(self, why: str) -> DomainError:
        name, version = self._manifest.name, self._manifest.version
        return DomainError(
            Reason.MODEL_BROKEN,
            f"model {name!r} version {version!r} is broken: {why}",
            field="model",
        )


def cuda_available() -> bool:
    """Whether this ONNX Runtime was built with CUDA."""
    return CUDA in ort.get_available_providers()


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    # The worker pool is the parallelism. ONNX Runtime would take the host's cores, not the
    # cgroup's, spin on them while idle, and split sums by the number of threads.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Weights outside of model.onnx are outside of its digest: look for them where nothing can be.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", f"{os.devnull}/none"
    )
    # Arena and memory pattern only grow with every new shape.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return options
