"""Few batch sizes, probed: the same image has the same feature bits at each size and position.

Kernels may sum in another order for another number of rows (a matrix-vector kernel for one row is
the usual case). Which order is taken depends on sizes and positions, not on values, so a probe with
random images finds it. See docs/decisions/0003-bit-exact-features.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
_SEED = 0


def bit_exact_sizes(run: Run, input_shape: tuple[int, ...], sizes: Sequence[int]) -> list[int]:
    """The sizes, ascending, at which `run` gives every image the bits it has in the largest size.

    Every image of a largest batch goes through every position of every size. The largest size stays
    only with positions that agree; where even they differ, the answer is [1]: an image alone has no
    neighbours to depend on. Also warms every size up.
    """
    ascending = sorted(set(sizes))
    largest = ascending[-1]
    generator = np.random.default_rng(_SEED)
    images = generator.random((largest, *input_shape), dtype=np.float32)  # [largest, ...]
    reference = run(images)  # [largest, d]
    if not _agrees(run, images, reference, largest):
        run(images[:1])
        return [1]
    return [s for s in ascending if s == largest or _agrees(run, images, reference, s)]


def split_batch(batch: NDArray[np.float32], sizes: Sequence[int]) -> list[NDArray[np.float32]]:
    """Cut [n, ...] into pieces of the largest size that fits; a smaller rest stays whole."""
    pieces: list[NDArray[np.float32]] = []
    begin = 0
    while begin < len(batch):
        rest = len(batch) - begin
        size = max((s for s in sizes if s <= rest), default=rest)
        pieces.append(batch[begin : begin + size])
        begin += size
    return pieces


def _agrees(
    run: Run, images: NDArray[np.float32], reference: NDArray[np.float32], size: int
) -> bool:
    """Whether each image has its reference bits at each position of a batch of `size`."""
    count = len(images)
    for shift in range(count if size == count else size):
        for begin in range(0, count, size):
            chosen = (np.arange(begin, begin + size) + shift) % count  # [size]
            if run(images[chosen]).tobytes() != reference[chosen].tobytes():
                return False
    return True
