"""Kinds of values on the command line: sizes of images, lists of numbers."""

from __future__ import annotations

import math
from typing import Any

import click


class ImageSize(click.ParamType):
    """HEIGHTxWIDTH, or one number for both."""

    name = "HEIGHTxWIDTH"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(height, width)."""
        parts = str(value).lower().split("x")
        if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() for part in parts):
            self.fail(f"{value!r} is no size, as in 224x224", param, ctx)
        height, width = int(parts[0]), int(parts[-1])
        if min(height, width) < 1:
            self.fail(f"{value!r} has no pixels", param, ctx)
        return height, width


class Numbers(click.ParamType):
    """Numbers, separated by commas."""

    name = "NUMBERS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, all finite."""
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is no list of numbers, as in 0.485,0.456,0.406", param, ctx)
        return numbers
