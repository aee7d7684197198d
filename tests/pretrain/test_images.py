"""Sources of images: the layouts they come in, sizes, labels, and errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reaas_pretrain.image_files import ImagesError
from reaas_pretrain.images import labelled_images, training_images


def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def test_named_data_set_keeps_its_pixels_and_labels(tmp_path: Path) -> None:
    images, labels = _pixels(20, 32, 32, 3), np.arange(20) % 10
    np.savez(
        tmp_path / "cifar10.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:10],
        test_labels=labels[:10],
    )
    train, test = labelled_images("cifar10", tmp_path, 32)
    assert np.array_equal(train.images.permute(0, 2, 3, 1), images)
    assert train.labels.tolist() == labels.tolist()
    assert (len(test), len(train.head(3))) == (10, 3)
    assert training_images("cifar10", tmp_path, 16).images.shape == (20, 3, 16, 16)


def test_folder_is_read_by_name_cropped_to_the_middle_and_labelled_by_its_folders(
    tmp_path: Path,
) -> None:
    for folder, grey in (("cat", 200), ("ant", 50)):
        (tmp_path / folder).mkdir()
        wide = np.zeros((16, 40, 3), np.uint8)
        wide[:, 12:28] = grey
        Image.fromarray(wide).save(tmp_path / folder / "1.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = training_images(str(tmp_path), tmp_path, 8)
    assert data.images.shape == (2, 3, 8, 8)
    assert data.images.amin((1, 2, 3)).tolist() == data.images.amax((1, 2, 3)).tolist() == [50, 200]
    assert data.labels.tolist() == [0, 1]
    Image.fromarray(_pixels(9, 9)).save(tmp_path / "loose.png")
    assert training_images(str(tmp_path), tmp_path, 8).labels.tolist() == [-1, -1, -1]


def test_photos_are_upright_to_scale_and_on_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # Upside down.
    half = np.zeros((8, 8, 3), np.uint8)
    half[:4] = 255
    Image.fromarray(half).save(tmp_path / "1.png", exif=exif)
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "2.tiff")
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(tmp_path / "3.png")
    images = training_images(str(tmp_path), tmp_path, 8).images
    assert np.array_equal(images[0].permute(1, 2, 0), half[::-1])
    assert images[1:].amin((1, 2, 3)).tolist() == images[1:].amax((1, 2, 3)).tolist() == [128, 255]


def test_npz_without_labels_is_unlabelled_and_grey_becomes_rgb(tmp_path: Path) -> None:
    grey = _pixels(5, 8, 8, 1)
    np.savez(tmp_path / "own.npz", images=grey)
    data = training_images(str(tmp_path / "own.npz"), tmp_path, 8)
    assert np.array_equal(data.images[:, 2], grey[..., 0])
    assert data.labels.tolist() == [-1] * 5


def test_cifar100_binary_has_the_fine_label(tmp_path: Path) -> None:
    planes = _pixels(4, 3, 32, 32)
    labels = np.array([[0, 7], [1, 99], [2, 0], [3, 50]], np.uint8)
    np.concatenate([labels, planes.reshape(4, -1)], axis=1).tofile(tmp_path / "train.bin")
    data = training_images("cifar100", tmp_path, 32)
    assert data.labels.tolist() == [7, 99, 0, 50]
    assert np.array_equal(data.images, planes)


def test_unlabelled_stl10_is_read_column_by_column_and_made_smaller(tmp_path: Path) -> None:
    rows = np.arange(96, dtype=np.uint8)
    image = np.broadcast_to(rows[:, None], (3, 96, 96))  # value = row
    np.stack([image, image]).transpose(0, 1, 3, 2).tofile(tmp_path / "unlabeled_X.bin")
    data = training_images("stl10_unlabelled", tmp_path, 32)
    assert data.images.shape == (2, 3, 32, 32)
    assert data.labels.tolist() == [-1, -1]
    assert np.allclose(data.images[0, 0, 5:27, 0], 3 * np.arange(5, 27) + 1, atol=1)


@pytest.mark.parametrize(
    ("source", "file", "content", "message"),
    [
        ("cifar10", None, b"", r"cifar10\.npz.*REAAS_DATA"),
        ("cifar100", None, b"", r"holds none of cifar-100-binary/train\.bin"),
        ("cifar100", "train.bin", b"123", r"train\.bin: 3 bytes are no whole number"),
        ("stl10_unlabelled", "unlabeled_X.bin", b"123", r"unlabeled_X\.bin: 3 bytes"),
        ("own.npz", "own.npz", b"no zip", r"own\.npz can't be read as \.npz"),
        ("folder", "folder/1.png", b"no image", r"1\.png can't be read as an image"),
        ("folder", "folder/1.txt", b"", r"folder holds no image files"),
        ("imagenet", None, b"", "source: got 'imagenet', expected one of digits, cifar10"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    file: str | None,
    content: bytes,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if file:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    with pytest.raises(ImagesError, match=message):
        training_images(source, tmp_path, 32)


def test_arrays_of_the_wrong_kind(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    for arrays, message in (
        ({"pictures": _pixels(2, 8, 8, 3)}, "no array train_images or images, only pictures"),
        ({"images": _pixels(2, 8, 8, 3) / 255}, r"images are float64 \(2, 8, 8, 3\)"),
        ({"images": _pixels(2, 8, 8, 3), "labels": np.zeros(3)}, r"labels are \(3,\)"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ImagesError, match=message):
            training_images(str(path), tmp_path, 8)


@pytest.mark.skipif("REAAS_DATA" not in os.environ, reason="REAAS_DATA names no data")
def test_real_tiny_imagenet() -> None:
    data = training_images("tiny_imagenet", Path(os.environ["REAAS_DATA"]), 32)
    assert data.images.shape == (100_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [500] * 200
