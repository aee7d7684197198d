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

    Resizes by `rows @ image @ columns.T` in float32 and replicates a single channel. The result of
    each image has the same bits whatever else is in the batch (one product of fixed size for each
    image and channel).
    """
    height, width, channels = spec.shape
    batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2))  # [n, c, h, w]
    if batch.shape[2:] != (height, width):
        rows = resize_matrix(batch.shape[2], height).astype(np.float32)  # [H, h]
        columns = resize_matrix(batch.shape[3], width).astype(np.float32)  # [W, w]
        batch = np.matmul(rows @ batch, columns.T, dtype=np.float32)  # [n, c, H, W]
    if batch.shape[1] != channels:
        batch = np.repeat(batch, channels, axis=1)  # [n, C, H, W]
    return np.ascontiguousarray(batch)
