"""Each published format, from tiny files written here byte by byte."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reaas.datasets import DatasetError, load
from scipy.io import savemat

GENERATOR = np.random.default_rng(0)


def images(count: int, size: int) -> np.ndarray:
    """Random images `[count, size, size, 3]`."""
    return GENERATOR.integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def planes(batch: np.ndarray) -> np.ndarray:
    """Images as CIFAR stores them: `[n, 3072]`, red plane first."""
    return batch.transpose(0, 3, 1, 2).reshape(len(batch), -1)


def write_cifar_python(directory: Path, train: np.ndarray, test: np.ndarray) -> None:
    directory.mkdir()
    for i, part in enumerate(np.split(train, 5), start=1):
        _pickle(directory / f"data_batch_{i}", planes(part), [i % 10] * len(part))
    _pickle(directory / "test_batch", planes(test), list(range(len(test))))


def _pickle(path: Path, data: np.ndarray, labels: list[int]) -> None:
    content = {b"data": data, b"labels": labels, b"batch_label": b"a batch"}
    path.write_bytes(pickle.dumps(content, protocol=2))


def test_cifar10_python_batches(tmp_path: Path) -> None:
    train, test = images(10, 32), images(4, 32)
    write_cifar_python(tmp_path / "cifar-10-batches-py", train, test)
    for root in (tmp_path, tmp_path / "cifar-10-batches-py"):
        got = load("cifar10", root)
        np.testing.assert_array_equal(got.train_images, train)
        np.testing.assert_array_equal(got.test_images, test)
        assert got.train_labels.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert got.test_labels.tolist() == [0, 1, 2, 3]
        assert got.class_names[3] == "cat"


def test_a_batch_pickled_by_python_2_is_read(tmp_path: Path) -> None:
    """The published files: arrays named `numpy.core.multiarray`, their bytes a Python 2 str."""
    write_cifar_python(tmp_path / "b", images(5, 32), images(2, 32))
    pixels = planes(images(1, 32))
    # the pickle of {"data": array, "labels": [7]} as Python 2 and numpy 1.6 wrote it
    head = b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    array = b"K\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    body = state + len(pixels.tobytes()).to_bytes(4, "little") + pixels.tobytes()
    tail = b"tbU\x06labels]K\x07au."
    (tmp_path / "b" / "test_batch").write_bytes(head + array + body + tail)
    got = load("cifar10", tmp_path / "b")
    np.testing.assert_array_equal(planes(got.test_images), pixels)
    assert got.test_labels.tolist() == [7]


class Malicious:
    """What a pickle may ask its reader to call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.write_text, (Path("owned"), "x"))


def test_a_pickle_that_calls_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_cifar_python(tmp_path / "b", images(5, 32), images(2, 32))
    (tmp_path / "b" / "data_batch_2").write_bytes(pickle.dumps({b"data": Malicious()}))
    with pytest.raises(DatasetError, match=r"data_batch_2 .*which is no array"):
        load("cifar10", tmp_path / "b")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({b"data": 1}), b"\x80\x02}."])
def test_a_broken_batch_is_named(tmp_path: Path, content: bytes) -> None:
    write_cifar_python(tmp_path / "b", images(5, 32), images(2, 32))
    (tmp_path / "b" / "data_batch_3").write_bytes(content)
    with pytest.raises(DatasetError, match="data_batch_3"):
        load("cifar10", tmp_path / "b")


def test_cifar10_binary_batches(tmp_path: Path) -> None:
    train, test = images(5, 32), images(3, 32)
    for i in range(5):
        record = bytes([i]) + planes(train[i : i + 1]).tobytes()
        (tmp_path / f"data_batch_{i + 1}.bin").write_bytes(record)
    records = [bytes([9 - i]) + planes(test[i : i + 1]).tobytes() for i in range(3)]
    (tmp_path / "test_batch.bin").write_bytes(b"".join(records))
    got = load("cifar10", tmp_path)
    np.testing.assert_array_equal(got.train_images, train)
    np.testing.assert_array_equal(got.test_images, test)
    assert got.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert got.test_labels.tolist() == [9, 8, 7]
    (tmp_path / "data_batch_4.bin").write_bytes(b"short")
    with pytest.raises(DatasetError, match=r"data_batch_4\.bin: 5 bytes"):
        load("cifar10", tmp_path)
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DatasetError, match=r"data_batch_4\.bin is missing"):
        load("cifar10", tmp_path)


def test_svhn_mat_files(tmp_path: Path) -> None:
    train, test = images(4, 32), images(2, 32)
    for name, part, labels in (("train", train, [1, 10, 9, 2]), ("test", test, [10, 5])):
        content = {"X": np.moveaxis(part, 0, -1), "y": np.array(labels, np.uint8)[:, None]}
        savemat(tmp_path / f"{name}_32x32.mat", content)
    got = load("svhn", tmp_path)
    np.testing.assert_array_equal(got.train_images, train)
    np.testing.assert_array_equal(got.test_images, test)
    assert got.train_labels.tolist() == [1, 0, 9, 2]
    assert got.test_labels.tolist() == [0, 5]
    (tmp_path / "train_32x32.mat").write_bytes(b"no mat file")
    with pytest.raises(DatasetError, match=r"train_32x32\.mat"):
        load("svhn", tmp_path)
    (tmp_path / "train_32x32.mat").unlink()
    with pytest.raises(DatasetError, match=r"train_32x32\.mat is missing"):
        load("svhn", tmp_path)


def test_stl10_binary_files(tmp_path: Path) -> None:
    train, test = images(4, 96), images(3, 96)
    for name, part, labels in (("train", train, [1, 10, 2, 3]), ("test", test, [4, 5, 6])):
        stored = part.transpose(0, 3, 2, 1)  # column by column
        (tmp_path / f"{name}_X.bin").write_bytes(np.ascontiguousarray(stored).tobytes())
        (tmp_path / f"{name}_y.bin").write_bytes(bytes(labels))
    got = load("stl10", tmp_path)
    np.testing.assert_array_equal(got.train_images, train)
    np.testing.assert_array_equal(got.test_images, test)
    assert got.train_labels.tolist() == [0, 9, 1, 2]
    assert got.class_names[7] == "monkey"
    (tmp_path / "train_y.bin").write_bytes(bytes([1, 2]))
    with pytest.raises(DatasetError, match=r"train_X\.bin: 110592 bytes for 2 labels"):
        load("stl10", tmp_path)
    (tmp_path / "train_y.bin").write_bytes(bytes([1, 2, 3, 0]))
    with pytest.raises(DatasetError, match=r"train_y\.bin: labels must be 1\.\.10"):
        load("stl10", tmp_path)


def write_tiny_imagenet(root: Path) -> None:
    """Two classes of flat colours, listed against the alphabet, and one grey image."""
    (root / "wnids.txt").parent.mkdir(parents=True, exist_ok=True)
    (root / "wnids.txt").write_text("n02\nn01\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius\nn02\ttoad\nn03\tunused\n")
    for wnid, level in (("n01", 50), ("n02", 200)):
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (64, 64), (level, level, level)).save(folder / f"{wnid}_{i}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    Image.new("L", (64, 64), 120).save(root / "val" / "images" / "val_0.JPEG")
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t63\t63\n")


def test_tiny_imagenet_folders(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    got = load("tiny_imagenet", tmp_path)
    assert got.train_images.shape == (4, 64, 64, 3)
    assert got.train_labels.tolist() == [0, 0, 1, 1]
    assert np.abs(got.train_images.astype(int).mean((1, 2, 3)) - [50, 50, 200, 200]).max() < 2
    assert got.test_images.shape == (1, 64, 64, 3)
    assert got.test_labels.tolist() == [1]
    assert got.class_names == ("goldfish, Carassius", "toad")


def test_tiny_imagenet_folders_that_are_broken_are_named(tmp_path: Path) -> None:
    write_tiny_imagenet(tmp_path)
    broken = tmp_path / "train" / "n01" / "images" / "n01_1.JPEG"
    broken.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"n01_1\.JPEG is no readable image"):
        load("tiny_imagenet", tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn09\t0\t0\t1\t1\n")
    with pytest.raises(DatasetError, match=r"val_annotations\.txt: .*n09"):
        load("tiny_imagenet", tmp_path)
    (tmp_path / "words.txt").unlink()
    with pytest.raises(DatasetError, match=r"words\.txt is missing"):
        load("tiny_imagenet", tmp_path)


def test_tiny_imagenet_mosaics(tmp_path: Path) -> None:
    """Class c holds the grey levels 40 c + 10 t in its tiles t, row by row."""
    jpegs = []
    for label in range(3):
        levels = np.repeat(np.repeat(40 * label + 10 * np.arange(4).reshape(2, 2), 32, 0), 32, 1)
        file = io.BytesIO()
        Image.fromarray(levels.astype(np.uint8)).convert("RGB").save(file, "JPEG", quality=95)
        jpegs.append(file.getvalue())
    np.savez(
        tmp_path / "tiny_imagenet.npz",
        train_jpeg=np.frombuffer(b"".join(jpegs), np.uint8),
        train_jpeg_offsets=np.cumsum([0, *map(len, jpegs)]),
        train_labels=np.repeat(np.arange(3), 4),
        test_images=images(3, 32),
        test_labels=np.arange(3),
        class_names=np.array(["a", "b", "c"]),
    )
    got = load("tiny_imagenet", tmp_path)
    expected = (40 * np.arange(3)[:, None] + 10 * np.arange(4)).ravel()
    assert np.abs(got.train_images.mean((1, 2, 3)) - expected).max() < 1.5
    part = load("tiny_imagenet", tmp_path, train_size=3, seed=1)
    assert sorted(part.train_labels.tolist()) == [0, 1, 2]
    assert (part.train_images.mean((1, 2, 3)) // 39.5 == part.train_labels).all()
