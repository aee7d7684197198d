"""Images that manifests record features of: the same for whoever records and whoever compares."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def recorded_images(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Three images [3, C, H, W] of ``shape`` (C, H, W): pixels in no order, a coarse pattern, grey.

    Of multiples of 1/256, made by integers only, so that they are the same everywhere.
    """
    count = int(np.prod(shape))
    index = np.arange(count, dtype=np.uint64)
    scrambled = (index * np.uint64(2654435761) >> np.uint64(7)) % np.uint64(257)
    coarse = (index // np.uint64(5) * np.uint64(97)) % np.uint64(257)
    levels = np.stack([scrambled, coarse, np.full(count, 128, np.uint64)])
    images: NDArray[np.float32] = levels.astype(np.float32) / np.float32(256)
    return images.reshape(3, *shape)
