"""Transposed convolution of many rows at once: torch has no fast float64 kernel for it."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

Pair = tuple[int, int]


def transposed_convolution(rows: Tensor, weight: Tensor, stride: Pair) -> Tensor:
    """Rows [n, o, h, w] spread over the inputs that they read, [n, i, h', w'].

    ``weight`` [o, i, kh, kw], no padding, dilation or groups; h' = (h - 1) s + kh. One matrix
    product for all taps; blocks of stride x stride taps do not overlap in the result, so few sums
    are left. Rows that lie last in memory ([o, h, w, n]) are read in place; the result is such.
    """
    (count, outputs, height, width), (down, across) = rows.shape, stride
    kernel, (tall, wide) = _in_blocks(weight, stride)
    products = kernel @ rows.movedim(0, -1).reshape(outputs, -1)
    products = products.view(tall * wide, down, across, weight.shape[1], height, width, count)
    planes = ((height + tall - 1) * down, (width + wide - 1) * across)
    total = rows.new_zeros(weight.shape[1], *planes, count)
    for block, (y, x) in enumerate(itertools.product(range(tall), range(wide))):
        rectangle = slice(y * down, (y + height) * down), slice(x * across, (x + width) * across)
        place = torch.unflatten(total[:, *rectangle], 2, (width, across))
        place = torch.unflatten(place, 1, (height, down))
        place.add_(products[block].permute(2, 3, 0, 4, 1, 5))  # [i, h, s, w, s, n]
    bottom, right = (height - 1) * down + weight.shape[2], (width - 1) * across + weight.shape[3]
    return total[:, :bottom, :right].movedim(-1, 0)


def spread_by_channel(rows: Tensor, weight: Tensor, stride: Pair, dilation: Pair) -> Tensor:
    """Rows [n, c, h, w] spread over the inputs that they read, each channel by its own kernel.

    ``weight`` [c, 1, kh, kw]. One product for each tap, of memory in its order.
    """
    (count, channels, height, width), taps = rows.shape, weight.shape[2:]
    (down, across), (further, beside) = stride, dilation
    reach = ((height - 1) * down + 1, (width - 1) * across + 1)
    planes = (reach[0] + further * (taps[0] - 1), reach[1] + beside * (taps[1] - 1))
    last = rows.movedim(0, -1)  # [c, h, w, n]
    total = rows.new_zeros(channels, *planes, count)
    for y, x in itertools.product(range(taps[0]), range(taps[1])):
        top, left = further * y, beside * x
        place = total[:, top : top + reach[0] : down, left : left + reach[1] : across]
        place.addcmul_(last, weight[:, 0, y, x, None, None, None])
    return total.movedim(-1, 0)


def _in_blocks(weight: Tensor, stride: Pair) -> tuple[Tensor, Pair]:
    """The kernel as [blocks * s * s * i, o], padded to whole blocks, and how many blocks."""
    (down, across), (height, width) = stride, weight.shape[2:]
    blocks = (-(-height // down), -(-width // across))
    missing = (0, blocks[1] * across - width, 0, blocks[0] * down - height)
    padded = functional.pad(weight, missing)
    tiles = torch.unflatten(padded, 3, (blocks[1], across))
    tiles = torch.unflatten(tiles, 2, (blocks[0], down))
    ordered = tiles.permute(2, 4, 3, 5, 1, 0)  # [t, t, s, s, i, o]
    return ordered.reshape(-1, len(weight)), blocks
