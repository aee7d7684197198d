"""The noise that SEaaS pays for: Gaussian, unclipped, and the same however it is batched."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reaas.schemes import noisy_batches


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, 3), dtype=np.uint8)


def copies_of(
    pictures: NDArray[Any],
    *,
    copies: int = 7,
    batch_inputs: int = 4,
    sigma: float = 0.5,
    seed: int = 3,
    phase: str = "test",
) -> NDArray[np.float32]:
    batches = noisy_batches(
        pictures,
        copies=copies,
        sigma=sigma,
        seed=seed,
        phase=phase,  # type: ignore[arg-type]
        batch_inputs=batch_inputs,
    )
    return np.concatenate(list(batches)).reshape(len(pictures), copies, *pictures.shape[1:])


@given(copies=st.integers(1, 9), batch_inputs=st.integers(1, 40), count=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_copies_do_not_depend_on_the_batch_size(copies: int, batch_inputs: int, count: int) -> None:
    whole = copies_of(images(count), copies=copies, batch_inputs=1000)
    assert np.array_equal(whole, copies_of(images(count), copies=copies, batch_inputs=batch_inputs))


def test_every_batch_but_the_last_is_full() -> None:
    batches = noisy_batches(images(3), copies=7, sigma=0.1, seed=0, phase="test", batch_inputs=4)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 1]


def test_an_input_keeps_its_noise_whatever_else_is_certified() -> None:
    pictures = images(3)
    assert np.array_equal(copies_of(pictures)[0], copies_of(pictures[:1])[0])


def test_training_and_testing_noise_differ_and_so_do_inputs() -> None:
    same = np.repeat(images(1), 2, axis=0)
    test, train = copies_of(same), copies_of(same, phase="train")
    assert not np.allclose(test, train)
    assert not np.allclose(test[0], test[1])


def test_noise_is_gaussian_around_the_image_and_not_clipped() -> None:
    pictures = images(1)
    noise = copies_of(pictures, copies=4000, sigma=0.25) - pictures / 255.0
    assert abs(noise.mean()) < 0.002
    assert abs(noise.std() - 0.25) < 0.002
    assert (noise + pictures / 255.0).min() < 0.0


def test_float_images_are_taken_as_they_are() -> None:
    pictures = images(2)
    scaled = (pictures / np.float32(255.0)).astype(np.float32)
    assert np.array_equal(copies_of(pictures), copies_of(scaled))


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match=r"images\.dtype is int64"):
        copies_of(images(1).astype(np.int64))
