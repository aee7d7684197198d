"""Boxes of an image plane: rows of a convolution are local, so only a window of them is kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """A box of an image plane; entries outside of it are zero."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices of the box in its plane."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)


def crop(values: Tensor, window: Window | None) -> Tensor:
    """The part of ``values`` [..., H, W] (or all of a flat [..., d]) inside ``window``."""
    if window is None:
        return values
    rows, columns = window.slices
    return values[..., rows, columns]


def embed(values: Tensor, window: Window | None, shape: Shape) -> Tensor:
    """Put windowed ``values`` [n, C, h, w] back into full planes of ``shape`` (C, H, W)."""
    if window is None:
        return values
    below = shape[1] - window.top - window.height
    right = shape[2] - window.left - window.width
    return _padded(values, window.left, right, window.top, below)


def clip(values: Tensor, top: int, left: int, shape: Shape) -> tuple[Tensor, Window]:
    """Cut what lies outside the plane off ``values`` [n, C, h, w] whose corner is (top, left).

    A box wholly outside becomes one pixel of zeros, so that no empty tensor travels on.
    """
    height, width = values.shape[-2:]
    first_row, last_row = max(top, 0), min(top + height, shape[1])
    first_column, last_column = max(left, 0), min(left + width, shape[2])
    if first_row >= last_row or first_column >= last_column:
        return values.new_zeros((*values.shape[:-2], 1, 1)), Window(0, 0, 1, 1)
    kept = values[..., first_row - top : last_row - top, first_column - left : last_column - left]
    return kept, Window(first_row, first_column, last_row - first_row, last_column - first_column)


def union(a: Window | None, b: Window | None) -> Window | None:
    """The smallest window that holds both (``None`` = the whole plane)."""
    if a is None or b is None:
        return None
    top, left = min(a.top, b.top), min(a.left, b.left)
    bottom = max(a.top + a.height, b.top + b.height)
    right = max(a.left + a.width, b.left + b.width)
    return Window(top, left, bottom - top, right - left)


def widen(values: Tensor, window: Window | None, target: Window | None, shape: Shape) -> Tensor:
    """Re-express windowed ``values`` in the larger window ``target`` of planes of ``shape``."""
    if window == target or window is None:
        return values
    if target is None:
        return embed(values, window, shape)
    top, left = window.top - target.top, window.left - target.left
    below = target.height - top - window.height
    right = target.width - left - window.width
    return _padded(values, left, right, top, below)


def _padded(values: Tensor, left: int, right: int, top: int, below: int) -> Tensor:
    """Zeros around the planes of ``values`` [n, C, h, w]; rows that are last in memory stay so."""
    last = functional.pad(values.movedim(0, -1), (0, 0, left, right, top, below))
    return last.movedim(-1, 0)
