"""Whether a file that was rewritten still computes what the original file does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from reaas_bounds import Network
from reaas_runtime.inference import open_session

from reaas_gate.gate import ACCEPTED, ServedOtherwiseError
from reaas_gate.probes import Images, Range, probe_images
from reaas_gate.reference import Reference

Original = Callable[[Images], NDArray[np.generic]]
_IMAGES = 8


def check_same_as(
    original: Original,
    onnx: bytes,
    network: Network,
    accepted: Range = ACCEPTED,
    levels: int | None = None,
) -> float:
    """Compares the served features of ``onnx`` with ``original`` (images [n, C, H, W] -> [n, d]).

    Both are float32 and may round on other ways: each within the float32 error of the exact
    feature of ``network``. The largest difference as a part of that, below 1. ``levels``: the
    original reads images of multiples of 1 / levels in [0, 1] only.

    Raises:
        ServedOtherwiseError: they differ by more.
    """
    probes = probe_images(network.input_shape, accepted, None)
    images = probes.images[:_IMAGES]
    if levels is not None:
        steps = np.rint(images.clip(0, 1) * levels).astype(np.float32)
        images = np.divide(steps, np.float32(levels), dtype=np.float32)
    limits = 2 * Reference.of(network, images).limits()
    session = open_session(onnx)
    name = session.get_inputs()[0].name
    worst = 0.0
    for index, image in enumerate(images):
        [served] = session.run(None, {name: image[None]})
        before = original(image[None]).astype(np.float64)
        apart = float(np.linalg.norm(served - before))
        if not apart <= limits[index]:
            raise ServedOtherwiseError(
                f"what was rewritten gives other features than the file itself: {apart:.3g} apart "
                f"on the image {probes.names[index]!r}, rounding explains {limits[index]:.3g}"
            )
        worst = max(worst, apart / limits[index])
    return worst
