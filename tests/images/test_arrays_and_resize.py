"""Arrays whose range and order are checked, the client's own resizing, folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from reaas.images import (
    ImageFileError,
    Pixels,
    ResizeMap,
    class_of,
    image_files,
    image_stack,
    read_arrays,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3), np.uint8)


def _read(path: Path, array: NDArray[np.generic]) -> Pixels:
    np.save(path, array)
    return image_stack(path, read_arrays(path))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f8"])
def test_floats_within_the_unit_range_are_taken_as_they_are(tmp_path: Path, dtype: str) -> None:
    values = (IMAGES / 255).astype(dtype)
    found = _read(tmp_path / "a.npy", values)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (IMAGES.astype(np.float32), "values from 0 to 255, not in .0,1.; is it 0..255"),
        (IMAGES / 127.5 - 1, "values from -1 to 1.*normalised"),
        (IMAGES.astype(np.uint16), "holds uint16"),
        (IMAGES > 3, "holds bool"),
        (IMAGES[0].transpose(2, 0, 1), r"channels first.*np\.moveaxis\(x, 0, -1\)"),
        (IMAGES.transpose(0, 3, 1, 2), r"channels first.*np\.moveaxis\(x, 1, -1\)"),
        (IMAGES[:, None, :, :, 0], r"channels first"),
        (IMAGES[0, ..., 0], r"a grey image x is x\[\.\.\., None\]"),
        (IMAGES[:0], "no pixels"),
        (np.full((4, 4, 3), np.nan), "finite"),
    ],
)
def test_what_could_mean_something_else_is_refused_by_name(
    tmp_path: Path, array: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(ImageFileError, match=rf"odd\.npy .*{message}"):
        _read(tmp_path / "odd.npy", array)


def test_channels_first_is_turned_by_the_advice(tmp_path: Path) -> None:
    first = IMAGES.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(_read(tmp_path / "a.npy", np.moveaxis(first, 1, -1)), IMAGES)


def test_an_array_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    for suffix in ("npy", "npz"):
        path = tmp_path / f"cut.{suffix}"
        np.save(path, IMAGES) if suffix == "npy" else np.savez(path, images=IMAGES)
        path.write_bytes(path.read_bytes()[:-90])
        with pytest.raises(ImageFileError, match=rf"cut\.{suffix} is no readable array file"):
            read_arrays(path)


def test_resizing_takes_the_centre_and_keeps_type_and_range() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (10, 20, 30)
    small = ResizeMap(5, 5)(wide)
    assert (small.dtype.name, small.shape) == ("uint8", (5, 5, 3))
    assert np.all(small == (10, 20, 30))
    assert ResizeMap(10, 30)(wide) is wide
    ramp = np.linspace(0, 1, 400, dtype=np.float32).reshape(20, 20, 1)
    found = ResizeMap(4, 8)(ramp)
    assert (found.dtype.name, found.shape) == ("float32", (4, 8, 1))
    assert 0 <= found.min() < found.max() <= 1
    np.testing.assert_allclose(found.mean(), 0.5, atol=0.01)
    assert str(ResizeMap(4, 8)) == "centre, antialiased bilinear to 4x8"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 500, 3), (500, 1, 3), (2, 3, 1)])
def test_any_shape_can_be_resized(shape: tuple[int, ...]) -> None:
    assert ResizeMap(32, 32)(np.full(shape, 7, np.uint8)).tolist() == [[[7] * shape[2]] * 32] * 32


def test_a_folder_is_read_by_name_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    for name in (
        "b/2.JPG",
        "b/deep/1.png",
        "a/1.png",
        "top.webp",
        "a/._1.png",
        ".x/1.png",
        "a.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    files = image_files(tmp_path)
    names = [str(file.relative_to(tmp_path)) for file in files]
    assert names == ["a/1.png", "b/2.JPG", "b/deep/1.png", "top.webp"]
    assert [class_of(file, tmp_path) for file in files] == ["a", "b", "b", None]
