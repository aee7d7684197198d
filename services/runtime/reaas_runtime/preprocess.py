"""From a client's image to the encoder's input: one fixed linear map, the same in every service.

Resizing and channel replication belong to f, so the F2I service rebuilds exactly this map from
`resize_matrix`. Everything here treats the images of a batch one by one: an image's result does not
depend on its neighbours.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from reaas_runtime.manifest import InputSpec

# Weights are multiples of 2^-20: exact in float32 (24 bits), and rows can sum to exactly 1.
_GRID = 1 << 20


@lru_cache(maxsize=256)
def resize_matrix(size_in: int, size_out: int) -> NDArray[np.float64]:
    """Bilinear interpolation along one axis, antialiased when shrinking. Read-only.

    Returns float64 [size_out, size_in], non-negative. Every entry is exactly a float32 number and
    every row sums to exactly 1; the identity where the sizes are equal. Triangle filter of half
    width max(1, size_in/size_out) pixels around half-pixel centres (as Pillow and
    `torch.nn.functional.interpolate(antialias=True)`).
    """
    scale = size_in / size_out
    centres = (np.arange(size_out) + 0.5) * scale  # [size_out]
    pixels = np.arange(size_in) + 0.5  # [size_in]
    distance = np.abs(pixels[None, :] - centres[:, None]) / max(1.0, scale)  # [size_out, size_in]
    weights: NDArray[np.float64] = np.maximum(0.0, 1.0 - distance)
    rows: NDArray[np.float64] = np.round(weights / weights.sum(axis=1, keepdims=True) * _GRID)
    # What rounding took from a row goes to its largest weight, at most size_in/2 steps of the grid.
    rows[np.arange(size_out), rows.argmax(axis=1)] += _GRID - rows.sum(axis=1)
    rows /= _GRID
    rows.setflags(write=False)
    return rows


def prepare_batch(images: NDArray[np.float32], spec: InputSpec) -> NDArray[np.float32]:
    """Images [n, h, w, c] in [0,1] units as the encoder's input [n, C, H, W], float32.

    Multiplies each channel by the rows' matrix, then by the columns', in float32, and replicates a
    single channel. An image's result has the same bits whatever else is in the batch: every product
    is of a size that the batch has no part in.
    """
    height, width, channels = spec.shape
    count, h, w, c = images.shape
    if (h, w) != (height, width):
        rows = resize_matrix(h, height).astype(np.float32)  # [H, h]
        columns = resize_matrix(w, width).astype(np.float32)  # [W, w]
        lines = (rows @ images.reshape(count, h, w * c)).reshape(count, height, w, c)
        images = np.matmul(columns, lines, dtype=np.float32)  # [n, H, W, c]
    if c != channels:
        images = np.repeat(images, channels, axis=3)  # [n, H, W, C]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # [n, C, H, W]
