"""Values on the command line: sizes of images, lists of numbers."""

from __future__ import annotations

import math

import click


def image_size(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """(height, width) of HEIGHTxWIDTH, or of one number for both."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) not in (1, 2) or not all(part.isascii() and part.isdigit() for part in parts):
        raise click.BadParameter(f"{value!r} is no size, as in 224x224", context, parameter)
    height, width = int(parts[0]), int(parts[-1])
    if min(height, width) < 1:
        raise click.BadParameter(f"{value!r} has no pixels", context, parameter)
    return height, width


def numbers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Numbers, separated by commas, all finite."""
    if value is None:
        return None
    try:
        found = tuple(float(part) for part in value.split(","))
    except ValueError:
        found = ()
    if not found or not all(map(math.isfinite, found)):
        message = f"{value!r} is no list of numbers, as in 0.485,0.456,0.406"
        raise click.BadParameter(message, context, parameter)
    return found
