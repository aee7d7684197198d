"""Gaussian noise on images: the queries that SEaaS pays for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Phase = Literal["train", "test"]

# Part of every stream's key, so that a head is never certified on noise that it was trained on.
_STREAM_OF_PHASE: dict[Phase, int] = {"train": 0, "test": 1}


def noise_stream(seed: int, phase: Phase, index: int) -> np.random.Generator:
    """The random stream of input number `index`; independent of every other input and phase."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM_OF_PHASE[phase], index))
    return np.random.Generator(np.random.SFC64(sequence))


def unit_images(images: NDArray[Any]) -> NDArray[np.float32]:
    """Images scaled to [0,1]: uint8 / 255, float32 as it is; shape unchanged."""
    if images.dtype == np.uint8:
        return (images / np.float32(255.0)).astype(np.float32, copy=False)
    if images.dtype == np.float32:
        return images
    raise TypeError(f"images.dtype is {images.dtype}; uint8 or float32 is needed")


def noisy_batches(
    images: NDArray[Any], *, copies: int, sigma: float, seed: int, phase: Phase, batch_inputs: int
) -> Iterator[NDArray[np.float32]]:
    """Batches of noisy copies, input by input: `copies` of the first image, then of the second.

    images: [n, h, w, c], uint8 or float32. Yields float32 [b, h, w, c], b = `batch_inputs` but for
    the last one. Noise is N(0, sigma^2) on pixels in [0,1] and is not clipped: smoothing certifies
    the classifier under the whole Gaussian. Every input has its own stream, so its copies are the
    same whatever the batch size and whatever else is certified along with it.
    """
    if copies < 1 or batch_inputs < 1:
        raise ValueError(f"copies is {copies} and batch_inputs {batch_inputs}; both must be >= 1")
    shape, total = images.shape[1:], len(images) * copies
    batch, filled = np.empty((min(batch_inputs, total), *shape), np.float32), 0  # [b, h, w, c]
    for index, image in enumerate(unit_images(images)):
        stream, left = noise_stream(seed, phase, index), copies
        while left:
            count = min(left, len(batch) - filled)
            part = batch[filled : filled + count]
            stream.standard_normal(dtype=np.float32, out=part)
            part *= np.float32(sigma)
            part += image
            left, filled = left - count, filled + count
            if filled == len(batch):
                yield batch
                total -= filled
                batch, filled = np.empty((min(batch_inputs, total), *shape), np.float32), 0
