"""Images from files, each with a name to show; batches of one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from reaas import InvalidArgumentError

F = TypeVar("F", bound=Callable[..., Any])
_ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, eq=False)
class NamedImage:
    """One image [h, w, c] as it will be sent, and where it is from."""

    name: str
    pixels: NDArray[Any]


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Images of one shape and type [n, h, w, c], and their places among all images."""

    places: NDArray[np.intp]
    pixels: NDArray[Any]


def images_argument() -> Callable[[F], F]:
    """`IMAGE...`, the same for every command."""
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.argument("files", metavar="IMAGE...", nargs=-1, required=True, type=kind)


def read_images(files: Sequence[Path]) -> list[NamedImage]:
    """All images of all files, in order. Raises InvalidArgumentError that names the file."""
    return [image for file in files for image in _read(file)]


def batches(images: Sequence[NamedImage], most: int) -> Iterator[ImageBatch]:
    """The images in batches of at most `most` that have one shape and type."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault((image.pixels.shape, image.pixels.dtype), []).append(place)
    for group in groups.values():
        for start in range(0, len(group), most):
            places = group[start : start + most]
            pixels = np.stack([images[place].pixels for place in places])  # [n, h, w, c]
            yield ImageBatch(np.array(places), pixels)


def read_arrays(file: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npy or .npz file by name; without pickles."""
    try:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"images": loaded}
        with loaded:
            return dict(loaded)
    except (OSError, ValueError) as error:
        raise _bad(file, f"is no readable array file: {error}") from error


def image_stack(file: Path, arrays: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """The images of an array file, [n, h, w, c]."""
    if "images" not in arrays and len(arrays) != 1:
        names = ", ".join(arrays)
        raise _bad(file, f"has the arrays {names}; the one of the images must be named `images`")
    stack = arrays.get("images", next(iter(arrays.values())))
    if stack.dtype not in (np.uint8, np.float32):
        raise _bad(file, f"holds {stack.dtype}; images are uint8, or float32 in [0,1]")
    if stack.ndim == 3:
        stack = stack[np.newaxis]  # [1, h, w, c]
    if stack.ndim != 4:
        raise _bad(file, f"has shape {stack.shape}; images are [h, w, c] or [n, h, w, c]")
    return stack


def _read(file: Path) -> Iterator[NamedImage]:
    if file.suffix.lower() not in _ARRAYS:
        yield NamedImage(file.name, _decode(file))
        return
    stack = image_stack(file, read_arrays(file))
    for index, pixels in enumerate(stack):
        yield NamedImage(f"{file.name}[{index}]" if len(stack) > 1 else file.name, pixels)


def _decode(file: Path) -> NDArray[np.uint8]:
    """Pixels of an image file: [h, w, 1] where it is grey, else [h, w, 3]."""
    try:
        with Image.open(file) as image:
            grey = image.mode in ("1", "L")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise _bad(file, f"is no readable image: {error}") from error
    return pixels[..., np.newaxis] if grey else pixels


def _bad(file: Path, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{file} {problem}", field="IMAGE", got=str(file))
