"""Which files are found, how a part is drawn, and what is said when something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reaas.datasets import DIRECTORY_VARIABLE, NAMES, Dataset, DatasetError, load


def write_npz(path: Path, train: int = 60, test: int = 40, **changes: Any) -> None:
    """A small file of the `.npz` layout; class 0 is twice as frequent as each other one."""
    labels = np.array([0, 0, 1, 2])
    arrays = {
        "train_images": np.arange(train, dtype=np.uint8)[:, None, None, None]
        * np.ones((1, 4, 4, 3), np.uint8),
        "train_labels": np.resize(labels, train),
        "test_images": np.full((test, 4, 4, 3), 7, np.uint8),
        "test_labels": np.resize(labels, test),
        "class_names": np.array(["cat", "dog", "hen"]),
    }
    np.savez(path, **{k: v for k, v in (arrays | changes).items() if v is not None})


def test_digits_need_no_files_and_are_eight_bit_grey_images() -> None:
    digits = load("digits")
    assert digits.train_images.shape == (1347, 8, 8, 1)
    assert digits.test_images.shape == (450, 8, 8, 1)
    assert digits.train_images.dtype == np.uint8
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)
    assert digits.class_names == tuple("0123456789")
    assert np.bincount(digits.test_labels).min() >= 43


def test_no_digit_is_in_both_splits_whatever_the_seed() -> None:
    train = {image.tobytes() for image in load("digits", train_size=900, seed=1).train_images}
    test = {image.tobytes() for image in load("digits", test_size=300, seed=2).test_images}
    assert not train & test


def test_a_part_keeps_the_proportions_of_the_classes(tmp_path: Path) -> None:
    write_npz(tmp_path / "gtsrb.npz")
    part = load("gtsrb", tmp_path, train_size=20, test_size=9, seed=3)
    assert np.bincount(part.train_labels).tolist() == [10, 5, 5]
    assert sorted(np.bincount(part.test_labels).tolist()) == [2, 2, 5]
    rows = part.train_images[:, 0, 0, 0]
    assert len(set(rows.tolist())) == 20
    np.testing.assert_array_equal(np.resize([0, 0, 1, 2], 60)[rows], part.train_labels)
    assert part.class_names == ("cat", "dog", "hen")


def test_the_seed_decides_which_images_are_drawn(tmp_path: Path) -> None:
    write_npz(tmp_path / "gtsrb.npz")

    def rows(seed: int) -> list[int]:
        part = load("gtsrb", tmp_path, train_size=12, test_size=12, seed=seed)
        return [int(level) for level in part.train_images[:, 0, 0, 0]]

    assert rows(1) == rows(1) != rows(2)


def test_without_sizes_everything_comes_in_its_order(tmp_path: Path) -> None:
    write_npz(tmp_path / "gtsrb.npz")
    everything = load("gtsrb", tmp_path)
    assert everything.train_images[:, 0, 0, 0].tolist() == list(range(60))
    assert len(everything.test_labels) == 40


def test_the_directory_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(tmp_path / "cifar10.npz")
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path))
    assert isinstance(load("cifar10"), Dataset)
    monkeypatch.delenv(DIRECTORY_VARIABLE)
    with pytest.raises(DatasetError, match=DIRECTORY_VARIABLE):
        load("cifar10")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_missing_files_are_listed(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=rf"{name}: .*{tmp_path.name} holds none of .*\.npz"):
        load(name, tmp_path)
    with pytest.raises(DatasetError, match="there is no directory"):
        load(name, tmp_path / "absent")


def test_unknown_names_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'mnist', expected one of digits, cifar10"):
        load("mnist", tmp_path)
    with pytest.raises(DatasetError, match=r"train_size: got 1348, the data set has 1\.\.1347"):
        load("digits", train_size=1348)
    with pytest.raises(DatasetError, match="test_size: got 0"):
        load("digits", test_size=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": None}, "no array train_images"),
        ({"train_images": np.zeros((60, 4, 4, 3))}, "images are float64"),
        ({"train_images": np.zeros((60, 3, 4, 4), np.uint8)}, r"\(60, 3, 4, 4\)"),
        ({"train_labels": np.zeros(59, int)}, r"labels are int64 \(59,\)"),
        ({"test_labels": np.full(40, -1)}, "got -1"),
        ({"class_names": np.array(["cat"])}, "1 class_names for labels up to 2"),
    ],
)
def test_npz_files_that_are_wrong_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_npz(tmp_path / "gtsrb.npz", **changes)
    with pytest.raises(DatasetError, match=message) as caught:
        load("gtsrb", tmp_path)
    assert "gtsrb.npz" in str(caught.value)


def test_a_truncated_npz_is_named(tmp_path: Path) -> None:
    write_npz(tmp_path / "gtsrb.npz")
    whole = (tmp_path / "gtsrb.npz").read_bytes()
    (tmp_path / "gtsrb.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"gtsrb\.npz can't be read"):
        load("gtsrb", tmp_path)


def test_class_names_default_to_numbers(tmp_path: Path) -> None:
    write_npz(tmp_path / "svhn_small.npz", class_names=None)
    assert load("svhn", tmp_path).class_names == ("0", "1", "2")
