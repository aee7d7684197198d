"""Folders of image files, and the classes that their sub-folders name."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = frozenset(
    {
        *(".png", ".jpg", ".jpeg", ".jfif", ".jp2", ".webp", ".avif", ".heic", ".heif", ".gif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".tga"),
    }
)
"""Names by which files of a folder are taken for images; a file named by itself may have any."""
ARRAYS = frozenset({".npy"})


def image_files(directory: Path, suffixes: frozenset[str] = SUFFIXES) -> list[Path]:
    """Every file below `directory` with such a suffix, by name; hidden ones are passed over."""
    return sorted(
        file
        for file in directory.rglob("*")
        if file.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in file.relative_to(directory).parts)
        and file.is_file()
    )


def class_of(file: Path, directory: Path) -> str | None:
    """The first folder below `directory` on the way to `file`; None where it lies in no folder."""
    parts = file.relative_to(directory).parts
    return parts[0] if len(parts) > 1 else None
