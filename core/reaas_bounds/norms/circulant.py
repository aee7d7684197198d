"""Certified norm of a zero-padded, strided, dilated, grouped convolution.

Polyphase: with ``a = d t - p = s Q + rho`` the kernel tap ``t`` reads super-pixel ``Q`` of phase
``rho``; on the space-to-depth input (an isometry) the convolution has stride 1. Zero padding is a
crop of a circular convolution on ``N`` points, ``N`` so large that nothing wraps around; both crop
and embedding have norm 1, so the circular norm is an upper bound (cf. Delattre et al., Efficient
Bound of Lipschitz Constant for Convolutional Layers by Gram Iteration, ICML 2023). It is the
largest norm of the blocks that the FFT makes of it, which Cholesky factorisations prove.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.maps import Convolution
from reaas_bounds.norms.matrix import UNIT, gamma, matrix_norm

# FFT blocks in memory at once, in complex entries (64 MiB).
CHUNK_ENTRIES = 2**22
# Steps of a power iteration that only chooses which block to look at first.
ESTIMATE_STEPS = 8


def convolution_norm(convolution: Convolution) -> float:
    """Upper bound of the operator norm of ``convolution``; deterministic.

    Never below the true norm of the zero-padded strided operator; for common layers within 2%
    of it. The rounding of FFT, products and factorisations (below 1e-8 relative) is added.
    """
    kernel, periods = _polyphase(convolution)  # [g, o/g, i/g * s^2, K, K]
    different = torch.unique(kernel, dim=0)  # pools have the same kernel in every group
    return max(_group_norm(part, periods) for part in different)


def nonnegative_convolution_norm(convolution: Convolution) -> float:
    """The same for a kernel without negative entries, from one matrix; deterministic.

    Theorem: its FFT blocks are entrywise at most that of frequency 0 in absolute value, so that
    one, the sum over the taps, has the largest norm.
    """
    kernel, _ = _polyphase(convolution)  # [g, o/g, i/g * s^2, K, K]
    different = torch.unique(kernel, dim=0)
    largest = max(matrix_norm(part.sum((2, 3))) for part in different)
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
    """Bound of all frequencies of one group's ``kernel`` [o, c, K_h, K_w].

    An entry of a block is off by at most ``gamma_m`` of the sum of its absolute taps, with m for
    a DFT of that length and for angles of a few turns a tap.
    """
    rows = torch.fft.fft(kernel, n=periods[0], dim=2)  # [o, c, N_h, K_w], complex
    chunk = max(1, CHUNK_ENTRIES // (kernel.shape[0] * kernel.shape[1] * periods[0]))
    squared = 0.0
    # The kernel is real: frequency -w has the conjugate block, half of them suffice.
    for start in range(0, periods[1] // 2 + 1, chunk):
        frequencies = range(start, min(start + chunk, periods[1] // 2 + 1))
        squared = proved_limit(_transform(rows, frequencies, periods[1]), squared)
    terms = 64 * (sum(kernel.shape[2:]) + math.ceil(math.log2(periods[0] + 1)))
    entries = kernel.abs().sum((2, 3))  # [o, c]
    return (math.sqrt(squared) + gamma(terms) * float(entries.norm())) * (1 + 8 * UNIT)


def _transform(rows: Tensor, frequencies: range, period: int) -> Tensor:
    """Blocks [N_h * F, o, c] of the DFT along the last axis at ``frequencies``."""
    taps = torch.arange(rows.shape[-1], dtype=torch.float64)
    angles = torch.outer(torch.tensor(list(frequencies), dtype=torch.float64), taps)
    waves = torch.exp(-2j * math.pi * angles / period)  # [F, K_w]
    blocks = torch.einsum("ochk,fk->hfoc", rows, waves)
    return blocks.flatten(0, 1)


def proved_limit(blocks: Tensor, known: float = 0.0) -> float:
    """Upper bound of the squared norms of all ``blocks`` [n, o, c] (complex) and of ``known``.

    Theorem: as for ``matrix_norm``: if the Cholesky factorisation of ``t I - G`` runs to
    completion, ``||G|| <= t`` but for rounding, with ``gamma_4k`` for complex numbers (Higham,
    Accuracy and Stability, 3.6). Eigenvalues of single blocks only decide how tight t is.
    """
    tall = blocks if blocks.shape[1] <= blocks.shape[2] else blocks.mH
    side, length = tall.shape[1:]
    gram = tall @ tall.mH  # [n, k, k]
    largest = float(gram.diagonal(dim1=1, dim2=2).real.sum(1).max())  # squared Frobenius norm
    rounding = 1.01 * gamma(4 * length + 4) * largest
    slack = 1e-9 + 64 * side * side * UNIT
    limit, left = known, gram
    while len(left) and largest > 0:
        shifted = -left
        shifted.diagonal(dim1=1, dim2=2).add_(limit)
        left = left[torch.linalg.cholesky_ex(shifted).info != 0]
        if len(left):
            worst = left[int(_estimates(left).argmax())]
            limit = max(limit, float(torch.linalg.eigvalsh(worst)[-1])) * (1 + slack)
    factorised = 1.01 * gamma(4 * side + 8) * side * limit
    return max(known, limit + factorised + rounding)


def _estimates(gram: Tensor) -> Tensor:
    """Rough sizes [n] of the largest eigenvalues of ``gram`` [n, k, k]."""
    vectors = gram.abs().sum(2, keepdim=True).to(gram.dtype)
    for _ in range(ESTIMATE_STEPS):
        vectors = gram @ (vectors / torch.linalg.vector_norm(vectors, dim=1, keepdim=True))
    sizes: Tensor = torch.linalg.vector_norm(vectors, dim=(1, 2))
    return sizes
