"""The client's own way from a photo to the pixels that are sent. Certificates are of the latter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._pixels import Pixels


@dataclass(frozen=True)
class ResizeMap:
    """The largest centred part of the target's proportions, then bilinear with antialiasing.

    It is no part of the certified function: a radius refers to the resized pixels.
    """

    height: int
    width: int

    def __str__(self) -> str:
        return f"centre, antialiased bilinear to {self.height}x{self.width}"

    def __call__(self, pixels: Pixels) -> Pixels:
        """`[h, w, c]` -> `[height, width, c]` of the same type; of that size already: unchanged."""
        if pixels.shape[:2] == (self.height, self.width):
            return pixels
        part = self._centre(pixels)
        if part.dtype == np.uint8:
            channels = [self._resample(part[..., i]) for i in range(part.shape[2])]
            return np.stack(channels, axis=-1)
        floats = [self._resample(part[..., i].astype(np.float32)) for i in range(part.shape[2])]
        return np.stack(floats, axis=-1).clip(0.0, 1.0)

    def _centre(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        # Integers, so that the cut is the same on every machine; at least one pixel.
        tall = max(1, min(height, width * self.height // self.width))
        wide = max(1, min(width, height * self.width // self.height))
        top, left = (height - tall) // 2, (width - wide) // 2
        return pixels[top : top + tall, left : left + wide]

    def _resample(self, channel: NDArray[np.generic]) -> Pixels:
        image = Image.fromarray(np.ascontiguousarray(channel))
        return np.asarray(image.resize((self.width, self.height), Image.Resampling.BILINEAR))
