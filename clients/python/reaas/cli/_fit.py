"""What an encoder takes, checked by file before anything is paid; and the client's resizing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

import reaas
from reaas.images import DecodeOptions, ImageFileError, Pixels, ResizeMap

F = TypeVar("F", bound=Callable[..., Any])
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
_OWN_SIZE = "own"


@dataclass(frozen=True)
class Fit:
    """Brings pixels to what is sent. Raises ImageFileError where the encoder would refuse them."""

    model: reaas.ModelInfo
    resize: ResizeMap | None

    def __call__(self, pixels: Pixels, file: object) -> Pixels:
        """The pixels to send, [h, w, c]."""
        if self.resize:
            pixels = self.resize(pixels)
        spec = self.model.input
        if len(spec.shape) != 3:
            return pixels
        self._check_channels(pixels.shape, spec, file)
        self._check_size(pixels.shape[:2], spec, file)
        return pixels

    @property
    def stated(self) -> str:
        """The client's resizing in words; empty: none."""
        return str(self.resize) if self.resize else ""

    @property
    def sentence(self) -> str:
        """What a title says about resizing; empty: nothing."""
        return f"; R of the resized pixels ({self.resize})" if self.resize else ""

    def about(self) -> dict[str, Any]:
        """For JSON: nothing without resizing."""
        return {"resize": self.stated} if self.resize else {}

    def _check_channels(self, shape: tuple[int, ...], spec: reaas.InputSpec, file: object) -> None:
        height, width, channels = shape
        if channels != spec.shape[2] and not (channels == 1 and spec.grey):
            takes = f"{spec.shape[2]}{' or 1' if spec.grey else ''}"
            raise ImageFileError(
                file,
                f"is [1, {height}, {width}, {channels}], of {channels} channel(s); "
                f"{self.model.ref.name} takes {takes}",
                limit=takes,
            )

    def _check_size(self, size: tuple[int, ...], spec: reaas.InputSpec, file: object) -> None:
        own = spec.shape[:2]
        if spec.resize is None:
            fits, takes = size == own, f"{own[0]} x {own[1]}"
        else:
            low, high = spec.resize.min_size, spec.resize.max_size
            fits = all(a <= b <= c for a, b, c in zip(low, size, high, strict=True))
            takes = f"{low[0]} x {low[1]} to {high[0]} x {high[1]}"
        if not fits:
            raise ImageFileError(
                file,
                f"is {size[0]} x {size[1]} pixels (height x width); {self.model.ref.name} takes "
                f"{takes}: --resize makes it fit, and the radius then refers to the resized pixels",
                limit=takes,
            )


def decode_options() -> Callable[[F], F]:
    """`--background`, `--first-frame` and `--resize`, the same for every command."""

    def add(command: F) -> F:
        for option in reversed(
            (
                click.option(
                    "--resize",
                    "resize",
                    is_flag=False,
                    flag_value=_OWN_SIZE,
                    metavar="[SIDE|HxW]",
                    help="Resize here, before sending: middle part, antialiased bilinear, by "
                    "default to the encoder's own size. Radii then refer to the resized pixels.",
                ),
                click.option(
                    "--background",
                    metavar="COLOUR",
                    help="Behind transparent pixels: white, black, grey or #rrggbb.  [default: "
                    "such images are skipped]",
                ),
                click.option(
                    "--first-frame",
                    is_flag=True,
                    help="Of animations and files of several pages, the first picture.  [default: "
                    "they are skipped]",
                ),
            )
        ):
            command = option(command)
        return command

    return add


def chosen_decoding(background: str | None, first_frame: bool) -> DecodeOptions:
    """The options' values. Raises click.UsageError."""
    return DecodeOptions(background=_colour(background), first_frame=first_frame)


def chosen_fit(model: reaas.ModelInfo, resize: str | None) -> Fit:
    """How images are brought to `model`."""
    if resize == _OWN_SIZE:
        resize = "x".join(map(str, model.input.shape[:2]))
    return Fit(model, parse_resize(resize))


def parse_resize(text: str | None) -> ResizeMap | None:
    """The map that `--resize` asks for (the encoder's size: not yet known). click.UsageError."""
    if text is None or text == _OWN_SIZE:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise click.UsageError(f"--resize is {text!r}; write a side in pixels, or HEIGHTxWIDTH")
    return ResizeMap(int(sides[0]), int(sides[-1]))


def _colour(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    digits = text.lower().removeprefix("#")
    if text.lower() in _COLOURS:
        return _COLOURS[text.lower()]
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        names = ", ".join(_COLOURS)
        raise click.UsageError(f"--background is {text!r}; write {names} or #rrggbb") from None
    return red, green, blue
