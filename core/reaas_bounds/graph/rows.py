"""Unit rows of an activation, grouped so that each group shares one window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution
from reaas_bounds.graph.nodes import Affine, Graph, Node, sources
from reaas_bounds.graph.window import Window
from reaas_bounds.interruption import checkpoint

# Rows worked on at once, at most.
GROUP = 512
# Entries of those rows, at most: 4 MiB a tensor, so that a few of them stay in a core's cache.
_ENTRIES = 2**19


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


def unit_rows(wanted: Tensor, size: int = GROUP) -> Iterator[UnitRows]:
    """Unit rows of all ``wanted`` neurons (bool [n, *shape]) in groups of at most ``size``.

    Neurons of an image plane are grouped by pixel: their rows share one window.
    """
    groups = _by_pixel(wanted) if wanted.dim() == 4 else _flat(wanted)
    for rows in groups:
        for start in range(0, len(rows.image), size):
            checkpoint()
            part = slice(start, start + size)
            yield UnitRows(rows.image[part], rows.neuron[part], rows.values[part], rows.window)


def group_size(graph: Graph) -> int:
    """Rows that may be pulled back through ``graph`` at once without needing much memory."""
    return _group_size(*(math.prod(node.shape) for node in graph.nodes))


def unit_group_size(graph: Graph, index: int) -> int:
    """The same for unit rows of node ``index``: they stay in patches, smaller than planes."""
    boxes: dict[int, tuple[int, int] | None] = {index: (1, 1)}
    sizes = []
    for current in range(index, -1, -1):
        if current not in boxes:
            continue
        node, box = graph.nodes[current], boxes[current]
        planes = node.shape[1:] if len(node.shape) == 3 else ()
        if box is None or not planes or box[0] * box[1] >= math.prod(planes):
            box = None
        sizes.append(math.prod(node.shape) if box is None else node.shape[0] * math.prod(box))
        for source in sources(node):
            # Where paths meet, rows are spread out.
            boxes[source] = None if source in boxes else _spread_box(node, box)
    return _group_size(*sizes)


def _spread_box(node: Node, box: tuple[int, int] | None) -> tuple[int, int] | None:
    """The box of the inputs that a box of ``node`` reads; None: all of them."""
    if box is None or not isinstance(node, Affine):
        return box
    if not isinstance(node.linear, Convolution):
        return None
    linear = node.linear
    parts = zip(box, linear.stride, linear.dilation, linear.weight.shape[2:], strict=True)
    height, width = ((b - 1) * s + d * (k - 1) + 1 for b, s, d, k in parts)
    return height, width


def _group_size(*sizes: int) -> int:
    return max(1, min(GROUP, _ENTRIES // max(sizes)))


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
    images, neurons = wanted.flatten(1).nonzero(as_tuple=True)
    for start in range(0, len(images), GROUP):
        image, neuron = images[start : start + GROUP], neurons[start : start + GROUP]
        values = torch.zeros(len(neuron), *wanted.shape[1:], dtype=torch.float64)
        values.flatten(1)[torch.arange(len(neuron)), neuron] = 1.0
        yield UnitRows(image, neuron, values, None)


def row_norms(linear: LinearMap) -> Tensor:
    """2-norm of each row of ``linear``, [*output_shape], float64.

    Exact up to rounding. ``||row|| r`` is the largest change of that output while the input moves
    by at most r.
    """
    found = torch.empty(linear.output_shape, dtype=torch.float64)
    size = _group_size(math.prod(linear.input_shape), found.numel())
    for rows in unit_rows(torch.ones(1, *found.shape, dtype=torch.bool), size):
        values, _ = linear.pull(rows.values, rows.window)
        found.view(-1)[rows.neuron] = values.flatten(1).norm(dim=1)
    return found
