"""What a person says of an encoder's file that the file itself doesn't."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Wishes:
    """How a file is to be read.

    `output`: the value that is the feature, any value of the graph; None: its only output.
    `size`: (height, width) of the images, where the file leaves them free.
    `scale`: the file reads pixels from 0 to this; served ones are in [0, 1].
    `mean`, `std`: per channel, subtracted and divided by, in the file's units, before the file's
    own graph; None: nothing is.
    `flatten`: a feature map [N, C, h, w] is flattened into one vector.
    """

    output: str | None = None
    size: tuple[int, int] | None = None
    scale: float = 1.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    flatten: bool = False

    def applied(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the file's own graph reads, for images [n, C, H, W] in [0, 1]."""
        result = images * np.float32(self.scale)
        if self.mean is not None:
            result = result - column(self.mean)
        if self.std is not None:
            result = result / column(self.std)
        return result.astype(np.float32)


def column(values: tuple[float, ...]) -> NDArray[np.float32]:
    """One number a channel, [1, C, 1, 1]."""
    return np.asarray(values, np.float32).reshape(1, -1, 1, 1)
