"""Averages and maxima over windows of an image plane."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import scipy.sparse
import torch
from numpy.typing import NDArray

from reaas_bounds.errors import InvalidModelError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maps import Convolution, Reshape
from reaas_bounds.graph.maxima import Columns, extreme
from reaas_bounds.graph.onnx_file import check_activation, label
from reaas_bounds.graph.operators.linear import convolution
from reaas_bounds.graph.operators.options import (
    WINDOW,
    Geometry,
    Operator,
    axes_of,
    geometry,
    options,
    require,
)
from reaas_bounds.graph.sparse import Sparse
from reaas_bounds.graph.window import Shape


def _window(
    node: onnx.NodeProto, given: dict[str, Any], shape: Shape
) -> tuple[Geometry, tuple[int, int]]:
    """The window of a pool, and how many of them lie along each axis."""
    kernel = tuple(given["kernel_shape"])
    window = geometry(node, given, kernel, shape[1:])
    _refuse_padding(node, given, window, shape)
    top, left, bottom, right = window.pads
    padded = (shape[1] + top + bottom, shape[2] + left + right)
    check_activation((shape[0], *padded), f"padded input of {label(node)}")
    counts = []
    for axis in (0, 1):
        room, step = padded[axis] - window.spans[axis], window.stride[axis]
        count = (-(-room // step) if given["ceil_mode"] else room // step) + 1
        # A window that would start behind the image and its padding in front is left out.
        late = given["ceil_mode"] and (count - 1) * step >= shape[1 + axis] + window.pads[axis]
        counts.append(count - 1 if late else count)
    check_activation((shape[0], *counts, math.prod(kernel)), f"windows of {label(node)}")
    return window, (counts[0], counts[1])


def _refuse_padding(
    node: onnx.NodeProto, given: dict[str, Any], window: Geometry, shape: Shape
) -> None:
    """Padding that ONNX Runtime refuses for pools: as wide as the kernel, or less than none."""
    for axis in (0, 1):
        size, kernel, stride = shape[1 + axis], window.kernel[axis], window.stride[axis]
        widest = max(window.pads[axis], window.pads[axis + 2])
        require(node, widest < kernel, f"padding {widest} of a kernel of {kernel}")
        gap = (-(-size // stride) - 1) * stride + kernel < size
        same = given["auto_pad"].startswith(b"SAME")
        require(node, not (same and gap), "auto_pad and strides that skip pixels at the end")


def _taps(window: Geometry, counts: tuple[int, int], plane: Shape) -> NDArray[np.int64]:
    """The pixels of every window [windows, taps]; -1 outside of the image."""
    lines = []
    for axis in (0, 1):
        starts = np.arange(counts[axis]) * window.stride[axis] - window.pads[axis]
        lines.append(starts[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis])
    rows, columns = lines[0][:, None, :, None], lines[1][None, :, None, :]
    inside = (rows >= 0) & (rows < plane[0]) & (columns >= 0) & (columns < plane[1])
    pixels = np.where(inside, rows * plane[1] + columns, -1)
    return pixels.reshape(counts[0] * counts[1], -1)


def _in_channels(taps: NDArray[np.int64], shape: Shape) -> NDArray[np.int64]:
    """The same windows in every channel [C * windows, taps]."""
    offsets = np.arange(shape[0])[:, None, None] * (shape[1] * shape[2])
    return np.where(taps < 0, -1, taps + offsets).reshape(-1, taps.shape[1])


def _max_pool(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, **WINDOW, ceil_mode=0, storage_order=0)
    require(node, len(node.output) == 1, "indices as a second output")
    shape = builder.shape(node, rank=3)
    window, counts = _window(node, given, shape)
    taps = _in_channels(_taps(window, counts, shape[1:]), shape)
    if bool((taps < 0).all(1).any()):
        raise InvalidModelError(f"node {label(node)!r}: a window lies in the padding")
    columns = Columns.of_groups(*builder.origin(builder.source(node)), taps)
    output = (shape[0], *counts)
    builder.index[node.output[0]] = extreme(builder, columns, output, label(node), largest=True)


def _average_pool(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, **WINDOW, ceil_mode=0, count_include_pad=0)
    shape = builder.shape(node, rank=3)
    window, counts = _window(node, given, shape)
    whole = math.prod(window.kernel)
    taps = _taps(window, counts, shape[1:])
    used = (taps >= 0).sum(1)
    if given["count_include_pad"]:
        used = _counted(window, counts, shape[1:])
    plain = convolution_of_mean(shape, window, node)
    if plain.output_shape[1:] == counts and bool((used == whole).all()):
        builder.affine(node, plain)
        return
    require(node, bool((used > 0).all()), "a window that holds only padding")
    rows, places = np.nonzero(_in_channels(taps, shape) >= 0)
    columns = _in_channels(taps, shape)[rows, places]
    sizes = (shape[0] * len(taps), math.prod(shape))
    weights = 1.0 / np.tile(used, shape[0])[rows]
    matrix = scipy.sparse.csr_array((weights, (rows, columns)), shape=sizes)
    builder.affine(node, Sparse.of(matrix, shape, (shape[0], *counts), terms=whole))


def _counted(window: Geometry, counts: tuple[int, int], plane: Shape) -> NDArray[np.int64]:
    """Taps [windows] of each window in the image and its padding."""
    sides = []
    for axis in (0, 1):
        starts = np.arange(counts[axis]) * window.stride[axis]
        taps = starts[:, None] + np.arange(window.kernel[axis]) * window.dilation[axis]
        limit = plane[axis] + window.pads[axis] + window.pads[axis + 2]
        sides.append((taps < limit).sum(1))
    counted: NDArray[np.int64] = sides[0][:, None] * sides[1][None, :]
    return counted.ravel()


def convolution_of_mean(shape: Shape, window: Geometry, node: onnx.NodeProto) -> Convolution:
    """The mean over each window, zeros of the padding counted: one channel at a time."""
    weight = torch.full((shape[0], 1, *window.kernel), 1.0 / math.prod(window.kernel))
    return convolution(node, weight.double(), shape, shape[0], window)


def _global_average_pool(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    _mean_of_planes(builder, node, builder.shape(node, rank=3))


def _mean_of_planes(builder: GraphBuilder, node: onnx.NodeProto, shape: Shape) -> None:
    kernel = (shape[1], shape[2])
    window = Geometry(kernel, (1, 1), (0, 0, 0, 0), (1, 1))
    builder.affine(node, convolution_of_mean(shape, window, node))


def _reduce_mean(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(node, axes=(), keepdims=1, noop_with_empty_axes=0)
    shape = builder.shape(node, rank=3)
    axes = axes_of(builder, node, given["axes"], len(shape))
    require(node, axes == (1, 2), f"axes {list(axes)} (after the batch); the mean over a plane")
    _mean_of_planes(builder, node, shape)
    if not given["keepdims"]:
        found = builder.index[node.output[0]]
        flat = Reshape((shape[0], 1, 1), (shape[0],))
        builder.index[node.output[0]] = builder.linear(found, flat, label(node))


def _global_max_pool(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    options(node)
    shape = builder.shape(node, rank=3)
    groups = np.arange(math.prod(shape)).reshape(shape[0], -1)
    columns = Columns.of_groups(*builder.origin(builder.source(node)), groups)
    output = (shape[0], 1, 1)
    builder.index[node.output[0]] = extreme(builder, columns, output, label(node), largest=True)


POOLING: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMean": _reduce_mean,
}
