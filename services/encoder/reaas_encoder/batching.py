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
# Each round puts another image, in other company, at every position.
_ROUNDS = 3


def bit_exact_sizes(run: Run, input_shape: tuple[int, ...], sizes: Sequence[int]) -> list[int]:
    """The sizes, ascending, at which `run` gives every image the bits it has in the largest size.

    Random images in changing company go through every position of every size. Where even the
    largest size disagrees with itself the answer is [1]: an image alone has no neighbours to depend
    on. Also warms every size up.
    """
    ascending = sorted(set(sizes))
    largest = ascending[-1]
    random = np.random.default_rng(_SEED)
    images = random.random((2 * largest, *input_shape), dtype=np.float32)  # [2 largest, ...]
    reference = np.concatenate([run(images[:largest]), run(images[largest:])])  # [2 largest, d]
    orders = [random.permutation(2 * largest) for _ in range(_ROUNDS)]
    exact = [s for s in ascending if _agrees(run, images, reference, orders, s)]
    if largest in exact:
        return exact
    run(images[:1])
    return [1]


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
    run: Run,
    images: NDArray[np.float32],
    reference: NDArray[np.float32],
    orders: Sequence[NDArray[np.int64]],
    size: int,
) -> bool:
    """Whether images have their reference bits in batches of `size`, cut from each of `orders`."""
    for order in orders:
        for begin in range(0, len(order) - size + 1, size):
            chosen = order[begin : begin + size]  # [size]
            if run(images[chosen]).tobytes() != reference[chosen].tobytes():
                return False
    return True
