"""Readers: mosaics come apart in the right order, real data where they are, clear errors."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from reaas_pretrain.images import ImagesError, load_cifar10, load_tiny_imagenet, mosaic_tiles


def _jpeg(mosaic: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mosaic).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _mosaic(rows: int, columns: int, tile: int, first: int) -> np.ndarray:
    """Tile k is flat grey of value `first + 10 k`."""
    values = first + 10 * np.arange(rows * columns).reshape(rows, columns)
    grey = values.repeat(tile, 0).repeat(tile, 1).astype(np.uint8)
    return np.stack([grey] * 3, axis=-1)


def test_tiles_come_row_by_row() -> None:
    tiles = mosaic_tiles(_jpeg(_mosaic(2, 3, 32, 20)))
    assert tiles.shape == (6, 32, 32, 3)
    assert np.abs(tiles.mean((1, 2, 3)) - (20 + 10 * np.arange(6))).max() < 2


def test_a_mosaic_that_is_no_grid_is_refused() -> None:
    with pytest.raises(ImagesError, match="no grid"):
        mosaic_tiles(_jpeg(np.zeros((40, 64, 3), np.uint8)))


def test_archive_of_mosaics(tmp_path: Path) -> None:
    jpegs = [_jpeg(_mosaic(1, 2, 32, first)) for first in (50, 150)]
    np.savez(
        tmp_path / "tiny_imagenet.npz",
        train_jpeg=np.frombuffer(b"".join(jpegs), np.uint8),
        train_jpeg_offsets=np.cumsum([0, *(len(j) for j in jpegs)]),
        train_labels=np.array([0, 0, 1, 1]),
    )
    data = load_tiny_imagenet(tmp_path)
    assert data.images.shape == (4, 3, 32, 32)
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert [round(float(image.float().mean()), -1) for image in data.images] == [50, 60, 150, 160]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImagesError, match=r"cifar10\.npz.*REAAS_DATA"):
        load_cifar10(tmp_path)


@pytest.mark.skipif("REAAS_DATA" not in os.environ, reason="REAAS_DATA names no data")
def test_real_tiny_imagenet() -> None:
    data = load_tiny_imagenet(Path(os.environ["REAAS_DATA"]))
    assert data.images.shape == (100_000, 3, 32, 32)
    assert data.labels.bincount().tolist() == [500] * 200
