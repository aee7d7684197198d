"""The one way in which ONNX Runtime is run here: by the encoder service, and by what checks it.

Imports onnxruntime, so the package's `__init__` does not export it.
"""

from __future__ import annotations

import os

import onnxruntime as ort

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"
# TF32 keeps 10 bits of mantissa, and a searched cuDNN algorithm may be Winograd: neither is inside
# the float32 error that the manifest certifies. DEFAULT is the implicit GEMM.
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}


class RuntimeRefusalError(Exception):
    """ONNX Runtime does not take the file; the message is the first line of its own."""


def open_session(onnx: bytes, *, cuda: bool = False) -> ort.InferenceSession:
    """A session of an encoder, with the options with which encoders are served.

    Raises:
        RuntimeRefusalError: ONNX Runtime does not take the file.
    """
    providers = [(CUDA, _CUDA_OPTIONS), CPU] if cuda else [CPU]
    try:
        return ort.InferenceSession(onnx, _options(), providers=providers)
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise RuntimeRefusalError(first_line(error)) from error


def first_line(error: Exception) -> str:
    """Why ONNX Runtime failed, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def cuda_available() -> bool:
    """Whether this ONNX Runtime was built with CUDA."""
    return CUDA in ort.get_available_providers()


def runtime_version() -> str:
    """Which ONNX Runtime this is."""
    return f"onnxruntime {ort.__version__}"


def _options() -> ort.SessionOptions:
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
    # Fatal only: what fails is told by whoever asked.
    options.log_severity_level = 4
    return options
