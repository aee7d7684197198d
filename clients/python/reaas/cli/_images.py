"""Images from files and folders, each with a name to show; in batches of one shape."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from reaas.cli._fit import Fit
from reaas.images import (
    ARRAYS,
    SUFFIXES,
    DecodeOptions,
    ImageFileError,
    Pixels,
    class_of,
    image_files,
    image_stack,
    pixels_digest,
    read_arrays,
    read_image,
)

F = TypeVar("F", bound=Callable[..., Any])
_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class ImageFile:
    """A file of one or more images."""

    path: Path
    name: str
    """To show: the path where it came from a folder, else the file's own name if it is unique."""
    folder: str | None
    """The class folder that it lies in; None: no folder was named."""
    named: bool
    """Whether the command names this very file, and not its folder."""


@dataclass(frozen=True, eq=False)
class NamedImage:
    """One image [h, w, c] as it will be sent, and where it is from."""

    place: int
    """Among all images of the command, from 0."""
    name: str
    path: str
    folder: str | None
    pixels: Pixels
    digest: str
    """Of the pixels: what has been paid is recognised by it."""


@dataclass(frozen=True)
class Sent:
    """What is kept of an image whose feature has come: not its pixels."""

    place: int
    name: str
    folder: str | None
    shape: tuple[int, ...]

    @classmethod
    def of(cls, image: NamedImage) -> Sent:
        """The image without its pixels."""
        return cls(image.place, image.name, image.folder, image.pixels.shape)


@dataclass
class Skipped:
    """Files that could not be used, and why."""

    reasons: dict[str, str] = field(default_factory=dict)
    named: bool = False
    """Whether one of them was named in the command itself."""

    def add(self, file: ImageFile, problem: str) -> None:
        """Remembers a file that is passed over."""
        self.reasons[shown(file.path)] = problem
        self.named |= file.named

    def refuse(self) -> NoReturn:
        """Raises ImageFileError: no file was left."""
        (name, problem), *others = self.reasons.items()
        if others:
            self.tell()
            name, problem = "IMAGE", f"is no use in any of {len(self.reasons)} files"
        raise ImageFileError(name, problem)

    def about(self) -> dict[str, Any]:
        """For JSON: nothing where nothing was skipped."""
        return {"skipped": self.reasons} if self.reasons else {}

    def end(self, ctx: click.Context) -> None:
        """Lists them. A file that the command itself names makes its exit code 2."""
        self.tell()
        if self.named:
            ctx.exit(2)

    def tell(self) -> None:
        """Lists them on stderr."""
        for name, problem in self.reasons.items():
            click.echo(f"reaas: skipped: {name} {problem}", err=True)


def images_argument() -> Callable[[F], F]:
    """`IMAGE...`, the same for every command."""
    kind = click.Path(exists=True, path_type=Path)
    return click.argument("files", metavar="IMAGE...", nargs=-1, required=True, type=kind)


def shown(path: Path) -> str:
    """A path as text that any output takes, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_readable(files: Sequence[ImageFile], options: DecodeOptions) -> None:
    """Raises ImageFileError if not a single file can be read: before anything is asked."""
    skipped = Skipped()
    for file in files:
        try:
            _read(file, options)
        except ImageFileError as error:
            skipped.add(file, error.problem)
        else:
            return
    skipped.refuse()


def find_files(paths: Sequence[Path]) -> list[ImageFile]:
    """The files that a command names, and those of its folders. Raises ImageFileError for none."""
    found: list[ImageFile] = []
    loose = Counter(path.name for path in paths if not path.is_dir())
    for path in paths:
        if not path.is_dir():
            name = path.name if loose[path.name] == 1 else shown(path)
            found.append(ImageFile(path, name, None, named=True))
            continue
        inside = image_files(path, SUFFIXES | ARRAYS)
        if not inside:
            raise ImageFileError(path, f"holds no image files ({', '.join(sorted(SUFFIXES))})")
        found += [ImageFile(f, shown(f), class_of(f, path), named=False) for f in inside]
    return found


def read_images(
    files: Iterable[ImageFile], fit: Fit, options: DecodeOptions, skipped: Skipped
) -> Iterator[NamedImage]:
    """The images of all files as they will be sent, in order; one file in memory at a time.

    A file that cannot be read, or that the encoder does not take, is added to `skipped`.
    """
    place = 0
    for file in files:
        try:
            images = [(suffix, fit(pixels, file.path)) for suffix, pixels in _read(file, options)]
        except ImageFileError as error:
            skipped.add(file, error.problem)
            continue
        for suffix, pixels in images:
            digest = pixels_digest(pixels)
            path = f"{shown(file.path)}{suffix}"
            yield NamedImage(place, f"{file.name}{suffix}", path, file.folder, pixels, digest)
            place += 1


def batches(images: Iterable[NamedImage], most: int) -> Iterator[list[NamedImage]]:
    """The images in batches of at most `most` that have one shape and type."""
    waiting: dict[tuple[Any, ...], list[NamedImage]] = {}
    for image in images:
        group = waiting.setdefault((image.pixels.shape, image.pixels.dtype), [])
        group.append(image)
        if len(group) == most:
            yield waiting.pop((image.pixels.shape, image.pixels.dtype))
    yield from waiting.values()


def stacked(images: Sequence[NamedImage]) -> NDArray[Any]:
    """A batch as an array [n, h, w, c]."""
    return np.stack([image.pixels for image in images])


def _read(file: ImageFile, options: DecodeOptions) -> list[tuple[str, Pixels]]:
    """The images of a file, each with what its name has after the file's: `[index]` or nothing."""
    if file.path.suffix.lower() not in _ARRAYS:
        return [("", read_image(file.path, options))]
    stack = image_stack(file.path, read_arrays(file.path))
    return [(f"[{i}]" if len(stack) > 1 else "", pixels) for i, pixels in enumerate(stack)]
