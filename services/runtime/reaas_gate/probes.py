"""Images at which encoders are compared: each shows another kind of mistake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Range = tuple[float, float]
_SEED = 0
_REAL = 4  # Images of the caller's that are enough beside the made ones.


@dataclass(frozen=True, eq=False)
class Probes:
    """Images [n, C, H, W] with a name each, the most telling ones first."""

    names: tuple[str, ...]
    images: Images


def probe_images(shape: tuple[int, ...], accepted: Range, real: Images | None) -> Probes:
    """Random, constant, extreme, periodic and almost empty images of ``shape`` (C, H, W).

    Pixels are in [0, 1], and in ``accepted`` (what the service takes, noise included) where the
    name says so. Random ones show weights that are mixed up; single pixels show paddings, strides
    and dilations; extremes show clipping; ``real`` [n, C, H, W] show what clients send.
    """
    random = np.random.default_rng(_SEED)
    low, high = accepted
    board = np.indices(shape).sum(0) % 2  # [C, H, W] of 0 and 1
    made = {
        "random": random.random(shape),
        "random in the accepted range": low + (high - low) * random.random(shape),
        "a pixel on black": _pixel(shape, 0.0, 1.0, (0, 0)),
        "checkerboard": board,
        "black": np.zeros(shape),
        "white": np.ones(shape),
        "lowest accepted": np.full(shape, low),
        "highest accepted": np.full(shape, high),
        "checkerboard of extremes": np.where(board, low, high),
        "a pixel on grey": _pixel(shape, 0.5, high, (shape[1] // 2, shape[2] // 2)),
        "a ramp": np.broadcast_to(np.linspace(0, 1, shape[2]), shape),
        "channels one by one": np.broadcast_to(np.linspace(0, 1, shape[0])[:, None, None], shape),
        "sparse": np.where(random.random(shape) < 0.05, 1.0, 0.0),
        "last pixel": _pixel(shape, 0.0, 1.0, (shape[1] - 1, shape[2] - 1)),
    }
    few = [] if real is None else list(real[:_REAL])
    names = [f"image {index} of the data" for index in range(len(few))]
    images = np.stack([*few, *made.values()]).astype(np.float32)
    return Probes((*names, *made), images)


def _pixel(
    shape: tuple[int, ...], ground: float, value: float, place: tuple[int, int]
) -> NDArray[np.float64]:
    image = np.full(shape, ground)
    image[:, place[0], place[1]] = value
    return image
