"""Certified norm of a zero-padded, strided, dilated, grouped convolution.

Polyphase: with ``a = d t - p = s Q + rho`` the kernel tap ``t`` reads super-pixel ``Q`` of phase
``rho``; on the space-to-depth input (an isometry) the convolution has stride 1. Zero padding is a
crop of a circular convolution on ``N`` points, ``N`` so large that nothing wraps around; both crop
and embedding have norm 1, so the circular norm is an upper bound. Its FFT blocks are bounded by
Gram iteration (Delattre et al., Efficient Bound of Lipschitz Constant for Convolutional Layers by
Gram Iteration, ICML 2023).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.maps import Convolution
from reaas_bounds.norms.matrix import gamma, matrix_norm

# ||G||_F overestimates the norm of a k x k matrix by at most k^(1/2); after t squarings the
# excess is k^(2^-(t+2)): 1.0003 for k = 128 and t = 12.
SQUARINGS = 12
# FFT blocks in memory at once, in complex entries (64 MiB).
CHUNK_ENTRIES = 2**22


def convolution_norm(convolution: Convolution) -> float:
    """Upper bound of the operator norm of ``convolution``; deterministic.

    Never below the true norm of the zero-padded strided operator; for common layers within 2%
    of it. The rounding of FFT and Gram iteration (below 1e-10 relative) is added.
    """
    kernel, periods = _polyphase(convolution)  # [g, o/g, i/g * s^2, K, K]
    largest = max(_group_norm(part, periods) for part in kernel)
    terms = kernel[0].numel() + SQUARINGS * max(kernel.shape[1:3])
    return largest * (1 + gamma(16 * terms))


def nonnegative_convolution_norm(convolution: Convolution) -> float:
    """The same for a kernel without negative entries, from one matrix; deterministic.

    Theorem: its FFT blocks are entrywise at most that of frequency 0 in absolute value, so that
    one, the sum over the taps, has the largest norm.
    """
    kernel, _ = _polyphase(convolution)  # [g, o/g, i/g * s^2, K, K]
    largest = max(matrix_norm(part.sum((2, 3))) for part in kernel)
    return largest * (1 + 2 * gamma(kernel[0, 0, 0].numel()))


def _polyphase(convolution: Convolution) -> tuple[Tensor, tuple[int, int]]:
    """Stride-1 kernel [g, o/g, i/g * s_h * s_w, K_h, K_w] and the circular sizes (N_h, N_w)."""
    weight, groups = convolution.weight, convolution.groups
    (s_h, s_w), (d_h, d_w) = convolution.stride, convolution.dilation
    taps_h, phases_h, period_h = _axis(convolution, 0, s_h, d_h)
    taps_w, phases_w, period_w = _axis(convolution, 1, s_w, d_w)
    per_group, inputs = weight.shape[0] // groups, weight.shape[1]
    grouped = weight.reshape(groups, per_group, inputs, *weight.shape[2:])
    kernel = weight.new_zeros(groups, per_group, inputs, s_h, s_w, max(taps_h) + 1, max(taps_w) + 1)
    for y, (tap_y, phase_y) in enumerate(zip(taps_h, phases_h, strict=True)):
        for x, (tap_x, phase_x) in enumerate(zip(taps_w, phases_w, strict=True)):
            kernel[:, :, :, phase_y, phase_x, tap_y, tap_x] = grouped[:, :, :, y, x]
    return kernel.flatten(2, 4), (period_h, period_w)


def _axis(
    convolution: Convolution, axis: int, stride: int, dilation: int
) -> tuple[list[int], list[int], int]:
    """Per kernel tap its super-pixel (from 0) and phase, and a circular size without wrap."""
    pad, taps = convolution.pads[axis], convolution.weight.shape[2 + axis]
    size, outputs = convolution.input_shape[1 + axis], convolution.output_shape[1 + axis]
    reads = [divmod(dilation * tap - pad, stride) for tap in range(taps)]
    first, last = min(q for q, _ in reads), max(q for q, _ in reads)
    supers = math.ceil(size / stride)
    period = max(supers, outputs + last) - min(0, first)
    return [q - first for q, _ in reads], [phase for _, phase in reads], period


def _group_norm(kernel: Tensor, periods: tuple[int, int]) -> float:
    """Largest bound over the frequencies of one group's ``kernel`` [o, c, K_h, K_w]."""
    rows = torch.fft.fft(kernel, n=periods[0], dim=2)  # [o, c, N_h, K_w], complex
    chunk = max(1, CHUNK_ENTRIES // (kernel.shape[0] * kernel.shape[1] * periods[0]))
    largest = 0.0
    # The kernel is real: frequency -w has the conjugate block, half of them suffice.
    for start in range(0, periods[1] // 2 + 1, chunk):
        frequencies = range(start, min(start + chunk, periods[1] // 2 + 1))
        blocks = _transform(rows, frequencies, periods[1])  # [F, o, c]
        largest = max(largest, float(gram_iteration(blocks).max()))
    return largest


def _transform(rows: Tensor, frequencies: range, period: int) -> Tensor:
    """Blocks [N_h * F, o, c] of the DFT along the last axis at ``frequencies``."""
    taps = torch.arange(rows.shape[-1], dtype=torch.float64)
    angles = torch.outer(torch.tensor(list(frequencies), dtype=torch.float64), taps)
    waves = torch.exp(-2j * math.pi * angles / period)  # [F, K_w]
    blocks = torch.einsum("ochk,fk->hfoc", rows, waves)
    return blocks.flatten(0, 1)


def gram_iteration(blocks: Tensor) -> Tensor:
    """Upper bounds [n] of the spectral norms of ``blocks`` [n, o, c]; at every step, any t."""
    tall = blocks if blocks.shape[1] <= blocks.shape[2] else blocks.mH
    gram = tall @ tall.mH  # [n, k, k]
    log_norm = torch.zeros(len(blocks), dtype=torch.float64)  # log of ||G_t|| taken out so far
    for _ in range(SQUARINGS):
        scale = torch.linalg.matrix_norm(gram).clamp_min(torch.finfo(torch.float64).tiny)
        log_norm = 2 * (log_norm + scale.log())
        gram = gram / scale[:, None, None]
        gram = gram @ gram
    final = torch.linalg.matrix_norm(gram)
    return torch.exp((log_norm + final.log()) / 2 ** (SQUARINGS + 1))
