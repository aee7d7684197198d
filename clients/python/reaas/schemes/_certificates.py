"""What a scheme hands back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reaas import ModelRef


@dataclass(frozen=True)
class ImageCertificates:
    """Labels and image-space certified radii of n testing inputs.

    `labels`: int64 [n], -1 where the smoothed classifier abstains. `radii`: float64 [n], L2 on
    pixels in [0,1], 0 where nothing is certified. They hold for `model`'s digest only.
    """

    model: ModelRef
    labels: NDArray[np.int64]
    radii: NDArray[np.float64]
    # Feature-space certified radii R' [n], None for margins; and the bound that turned each into
    # `radii`. Both None where the scheme certifies the image itself.
    feature_radii: NDArray[np.float64] | None = None
    methods: tuple[str, ...] | None = None


class NotApplicableError(Exception):
    """The scheme cannot give this kind of certificate, whatever it is paid; `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
