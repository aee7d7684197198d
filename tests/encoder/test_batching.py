from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reaas_encoder.batching import Run, bit_exact_sizes, split_batch

Array = NDArray[np.float32]
SIZES = (1, 2, 4, 8)


def exact(batch: Array) -> Array:
    return batch.reshape(len(batch), -1)[:, :3] * np.float32(1.5)


def nudged(features: Array, position: int) -> Array:
    """`features` with the last bit of one row changed."""
    changed = features.copy()
    changed[position] = np.nextafter(changed[position], np.float32(9))
    return changed


def single_row_kernel(batch: Array) -> Array:
    return nudged(exact(batch), 0) if len(batch) == 1 else exact(batch)


def last_position_of_four(batch: Array) -> Array:
    return nudged(exact(batch), 3) if len(batch) == 4 else exact(batch)


def position_in_largest(batch: Array) -> Array:
    return nudged(exact(batch), 5) if len(batch) == 8 else exact(batch)


def neighbours(batch: Array) -> Array:
    shifted: Array = exact(batch) + batch.mean(dtype=np.float32)
    return shifted


@pytest.mark.parametrize(
    ("run", "kept"),
    [
        (exact, [1, 2, 4, 8]),
        (single_row_kernel, [2, 4, 8]),
        (last_position_of_four, [1, 2, 8]),
        (position_in_largest, [1]),
        (neighbours, [1]),
    ],
)
def test_sizes_whose_bits_differ_are_dropped(run: Run, kept: list[int]) -> None:
    assert bit_exact_sizes(run, (2, 3, 3), SIZES) == kept


@given(st.integers(1, 200), st.sets(st.sampled_from([1, 2, 3, 8, 32]), min_size=1))
def test_pieces_fit_the_sizes_and_lose_nothing(count: int, sizes: set[int]) -> None:
    batch = np.arange(count, dtype=np.float32)[:, None]
    pieces = split_batch(batch, sorted(sizes))
    assert (np.concatenate(pieces) == batch).all()
    for piece in pieces[:-1]:
        assert len(piece) in sizes
    assert len(pieces[-1]) <= max(sizes)
