"""Devices that bounds may be computed on, and the arithmetic that they have to promise.

What a certificate rests on, per device:
- Norms, the constants of a model and the float32 error of a feature are always computed on the CPU.
- The rest is float64: sums of products in any order, fused or not, elementwise operations, square
  roots. ``ROUNDING`` and the margins of ``centre`` are multiples of Higham's ``gamma_n``, which
  holds for every order of summation; so they cover a GPU's too. Values of Tanh, Sigmoid and GELU
  are good to ``SLACK``, far more than the two units in the last place of CUDA's.
- Float32, eigenvectors and singular values decide effort and free choices, never validity.

And the bits of an answer: every image is worked on alone, so that shapes, and with them the kernels
that a library chooses, depend on the query and not on its batch.
"""

from __future__ import annotations

import os

import torch

from reaas_bounds.errors import DeviceError

CPU = torch.device("cpu")

# cuBLAS reads them when it starts. The first makes its results repeatable (either value does;
# NVIDIA's cuBLAS manual, Results Reproducibility), the others forbid that products are put together
# from integers or bfloat16 (Floating Point Emulation).
_ENVIRONMENT = {
    "CUBLAS_WORKSPACE_CONFIG": (":4096:8", ":16:8"),
    "CUBLAS_EMULATE_DOUBLE_PRECISION": ("0",),
    "CUBLAS_EMULATE_SINGLE_PRECISION": ("0",),
}


def prepare_device(name: str | torch.device) -> torch.device:
    """The device called ``name`` (cpu, cuda, cuda:N), once it computes as bounds assume.

    For CUDA this changes the whole process: no cuDNN, which may convolve by FFT in float64 and
    chooses an algorithm by the batch (PyTorch's own convolution is one matrix product an image), no
    TF32, deterministic algorithms only, and cuBLAS repeatable and without emulation.

    Raises:
        DeviceError: no such device here, or the environment asks for another arithmetic.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r} is unknown, allowed: cpu, cuda, cuda:N") from None
    match device.type:
        case "cpu":
            return CPU
        case "cuda":
            found = torch.device("cuda", _existing(device))
            _compute_in_ieee()
            return found
        case _:
            raise DeviceError(f"device {name} is not supported, allowed: cpu, cuda, cuda:N")


def _existing(device: torch.device) -> int:
    """The index of a CUDA device that is there."""
    if torch.version.cuda is None:
        raise DeviceError(f"device {device}: this PyTorch ({torch.__version__}) has no CUDA")
    count = torch.cuda.device_count()
    index = device.index or 0
    if index >= count:
        found = f"cuda:0 to cuda:{count - 1}" if count else "none"
        raise DeviceError(f"device {device}: not found; CUDA devices here: {found}")
    return index


def _compute_in_ieee() -> None:
    for variable, allowed in _ENVIRONMENT.items():
        value = os.environ.setdefault(variable, allowed[0])
        if value not in allowed:
            raise DeviceError(
                f"{variable} is {value!r}, allowed for certificates: {', '.join(allowed)} or unset"
            )
    torch.backends.cudnn.enabled = False
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(True)
