from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reaas_runtime import InputSpec, prepare_batch, resize_matrix

from tests.support.models import manifest

sizes = st.integers(1, 96)


def spec(size: tuple[int, int] = (8, 8)) -> InputSpec:
    return InputSpec.model_validate(manifest(b"")["input"] | {"shape": [*size, 3]})


@given(sizes, sizes)
def test_rows_are_averages_in_exact_float32(size_in: int, size_out: int) -> None:
    rows = resize_matrix(size_in, size_out)
    assert rows.shape == (size_out, size_in)
    assert rows.dtype == np.float64
    assert (rows >= 0).all()
    assert (rows.sum(axis=1) == 1).all()
    assert (rows == rows.astype(np.float32)).all()


@given(sizes)
def test_equal_sizes_are_the_identity(size: int) -> None:
    assert (resize_matrix(size, size) == np.eye(size)).all()


@given(sizes, sizes)
def test_mirror_images_resize_to_mirror_images(size_in: int, size_out: int) -> None:
    rows = resize_matrix(size_in, size_out)
    assert np.abs(rows - rows[::-1, ::-1]).max() <= size_in / (1 << 19)


@given(sizes, sizes, st.integers(0, 99))
@settings(deadline=None)
def test_it_is_pillows_bilinear(size_in: int, size_out: int, seed: int) -> None:
    line = np.random.default_rng(seed).random((1, size_in), dtype=np.float32)
    pillow = Image.fromarray(line).resize((size_out, 1), Image.Resampling.BILINEAR)
    ours = resize_matrix(size_in, size_out) @ line[0]
    np.testing.assert_allclose(ours, np.asarray(pillow)[0], atol=1e-4)


def test_matrices_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        resize_matrix(4, 8)[0, 0] = 7


@pytest.mark.parametrize("shape", [(8, 8, 3), (5, 7, 3), (33, 20, 1), (64, 64, 3), (4, 4, 1)])
def test_the_map_is_the_matrices_and_replication(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    prepared = prepare_batch(images, spec((8, 6)))
    assert prepared.shape == (2, 3, 8, 6)
    assert prepared.dtype == np.float32
    assert prepared.flags.c_contiguous
    rows, columns = resize_matrix(shape[0], 8), resize_matrix(shape[1], 6)
    for channel in range(3):
        source = images[..., min(channel, shape[2] - 1)].astype(np.float64)
        expected = rows @ source @ columns.T
        np.testing.assert_allclose(prepared[:, channel], expected, atol=1e-6)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3])),
    st.integers(1, 9),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=50)
def test_an_image_has_the_same_bits_whatever_its_neighbours(
    shape: tuple[int, int, int], count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    images = random.random((count, *shape), dtype=np.float32)
    together = prepare_batch(images, spec((16, 16)))
    for position in random.permutation(count):
        alone = prepare_batch(images[position : position + 1], spec((16, 16)))
        assert alone.tobytes() == together[position : position + 1].tobytes()
