"""Unit rows of an activation, grouped so that each group shares one window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.graph.window import Shape, Window

_FLAT_GROUP = 256  # rows of a flat activation in one group


@dataclass(frozen=True, eq=False)
class UnitRows:
    """Rows that each select one neuron.

    ``neurons`` [m] flat indices into the activation; ``values`` [m, *window of the shape].
    """

    neurons: Tensor
    values: Tensor
    window: Window | None


def unit_rows(shape: Shape) -> Iterator[UnitRows]:
    """All neurons of an activation: one group per pixel of a plane, or per 256 flat entries."""
    if len(shape) == 3:
        channels, height, width = shape
        values = torch.eye(channels, dtype=torch.float64)[:, :, None, None]
        for pixel in range(height * width):
            neurons = torch.arange(channels) * (height * width) + pixel
            yield UnitRows(neurons, values, Window(pixel // width, pixel % width, 1, 1))
        return
    size = math.prod(shape)
    for start in range(0, size, _FLAT_GROUP):
        neurons = torch.arange(start, min(start + _FLAT_GROUP, size))
        values = torch.zeros(len(neurons), size, dtype=torch.float64)
        values[torch.arange(len(neurons)), neurons] = 1.0
        yield UnitRows(neurons, values, None)
