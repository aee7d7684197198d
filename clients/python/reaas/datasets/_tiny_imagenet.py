"""Tiny-ImageNet-200 as published: folders of JPEG files at 64 x 64."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ._dataset import DatasetError, Images, Rows, Source, Split
from ._pillow import decode


def read_folders(marker: Path) -> Source:
    """`train/<wnid>/images` and the validation images as test (the test labels are not public).

    `marker` is `wnids.txt`. A label is the index of its WordNet id in alphabetical order.
    """
    root = marker.parent
    wnids = sorted(_lines(marker))
    train = {wnid: sorted((root / "train" / wnid / "images").glob("*.JPEG")) for wnid in wnids}
    for wnid, files in train.items():
        if not files:
            raise DatasetError(f"{root / 'train' / wnid / 'images'} holds no .JPEG file")
    words = {
        wnid: name for wnid, _, name in (w.partition("\t") for w in _lines(root / "words.txt"))
    }
    return Source(
        _split(
            [file for files in train.values() for file in files],
            [label for label, files in enumerate(train.values()) for _ in files],
        ),
        _validation(root / "val", wnids),
        tuple(words.get(wnid, wnid) for wnid in wnids),
    )


def _validation(directory: Path, wnids: list[str]) -> Split:
    annotations = directory / "val_annotations.txt"
    entries = [line.split("\t")[:2] for line in _lines(annotations)]
    try:
        labels = [wnids.index(wnid) for _, wnid in entries]
    except ValueError as error:
        raise DatasetError(f"{annotations}: a class that wnids.txt lacks: {error}") from error
    return _split([directory / "images" / name for name, _ in entries], labels)


def _split(files: list[Path], labels: list[int]) -> Split:
    def read(rows: Rows) -> Images:
        return np.stack([decode(files[row], files[row]) for row in rows])

    return Split(np.array(labels, np.int64), read)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing") from error
