"""Small data in the layout of the real files that pre-training reads."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def write_images(directory: Path) -> None:
    """40 train images in two mosaics, and a CIFAR-10 of 60."""
    generator = np.random.default_rng(0)
    mosaics = []
    for _ in range(2):
        file = io.BytesIO()
        pixels = generator.integers(0, 255, (4 * 32, 5 * 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=93, subsampling=0)
        mosaics.append(file.getvalue())
    images = generator.integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(60) % 10
    np.savez(
        directory / "tiny_imagenet.npz",
        train_jpeg=np.frombuffer(b"".join(mosaics), np.uint8),
        train_jpeg_offsets=np.cumsum([0, *(len(m) for m in mosaics)]),
        train_labels=np.repeat([0, 1], 20),
        test_images=images,
        test_labels=labels,
    )
    np.savez(
        directory / "cifar10.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
