"""Unit rows of an activation, grouped so that each group shares one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.graph.nodes import Affine, Graph, Input
from reaas_bounds.graph.window import Window

# Rows worked on at once: 512 rows of an activation of 8,192 entries take 32 MiB.
GROUP = 512


@dataclass(frozen=True, eq=False)
class UnitRows:
    """Rows that each select one neuron of one image.

    ``image`` [m] and ``neuron`` [m] (flat index into the activation) say which; ``values``
    [m, *window of the activation's shape] are the rows.
    """

    image: Tensor
    neuron: Tensor
    values: Tensor
    window: Window | None


def unit_rows(wanted: Tensor) -> Iterator[UnitRows]:
    """Unit rows of all ``wanted`` neurons (bool [n, *shape]) in groups of at most 512.

    Neurons of an image plane are grouped by pixel: their rows share one window.
    """
    groups = _by_pixel(wanted) if wanted.dim() == 4 else _flat(wanted)
    for rows in groups:
        for start in range(0, len(rows.image), GROUP):
            part = slice(start, start + GROUP)
            yield UnitRows(rows.image[part], rows.neuron[part], rows.values[part], rows.window)


def _by_pixel(wanted: Tensor) -> Iterator[UnitRows]:
    channels, height, width = wanted.shape[1:]
    basis = torch.eye(channels, dtype=torch.float64)[:, :, None, None]
    for pixel in range(height * width):
        top, left = divmod(pixel, width)
        image, channel = wanted[:, :, top, left].nonzero(as_tuple=True)
        if len(image):
            neuron = channel * (height * width) + pixel
            yield UnitRows(image, neuron, basis[channel], Window(top, left, 1, 1))


def _flat(wanted: Tensor) -> Iterator[UnitRows]:
    images, neurons = wanted.nonzero(as_tuple=True)
    for start in range(0, len(images), GROUP):
        image, neuron = images[start : start + GROUP], neurons[start : start + GROUP]
        values = torch.zeros(len(neuron), wanted.shape[1], dtype=torch.float64)
        values[torch.arange(len(neuron)), neuron] = 1.0
        yield UnitRows(image, neuron, values, None)


def row_norms_at_input(graph: Graph) -> dict[int, Tensor]:
    """Per affine node that reads the image: 2-norm of each of its rows, [*shape].

    Exact up to rounding: ``||row|| r`` is the largest change of that neuron in the ball.
    """
    norms: dict[int, Tensor] = {}
    for index, node in enumerate(graph.nodes):
        if isinstance(node, Affine) and isinstance(graph.nodes[node.source], Input):
            found = torch.empty(node.linear.output_shape, dtype=torch.float64)
            wanted = torch.ones(1, *found.shape, dtype=torch.bool)
            for rows in unit_rows(wanted):
                values, _ = node.linear.pull(rows.values, rows.window)
                found.view(-1)[rows.neuron] = values.flatten(1).norm(dim=1)
            norms[index] = found
    return norms
