"""The elementary linear maps: convolution, matrix, scaling, reshape, replication, rescaling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.transposed import spread_by_channel, transposed_convolution
from reaas_bounds.graph.window import Shape, Window, clip, crop, embed

Pair = tuple[int, int]
# From so many float32 rows on, one matrix product is faster than torch's transposed convolution.
_MANY_ROWS = 16


class Convolution(LinearMap):
    """2-D convolution (ONNX ``Conv`` without bias) with zero padding.

    ``weight`` [o, i/groups, kh, kw]; ``pads`` (top, left, bottom, right). The output shape follows
    the ONNX formula; its planes are <= 0 for an impossible layer, which the lowering refuses.
    """

    def __init__(
        self,
        weight: Tensor,
        input_shape: Shape,
        stride: Pair = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> None:
        sizes = (input_shape[1] + pads[0] + pads[2], input_shape[2] + pads[1] + pads[3])
        spans = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        planes = [(n - k) // s + 1 for n, k, s in zip(sizes, spans, stride, strict=True)]
        terms = math.prod(weight.shape[1:])
        super().__init__(input_shape, (weight.shape[0], *planes), terms)
        self.weight, self.stride, self.pads = weight, stride, pads
        self.dilation, self.groups = dilation, groups

    def reweighted(self, weight: Tensor, input_shape: Shape | None = None) -> Convolution:
        """The same geometry with another kernel, for as many channels as that has."""
        shape = input_shape or self.input_shape
        return Convolution(weight, shape, self.stride, self.pads, self.dilation, self.groups)

    def apply(self, x: Tensor) -> Tensor:
        """Correlate ``x`` [n, i, H, W] with the kernel."""
        top, left, bottom, right = self.pads
        padding = (top, left)
        if padding != (bottom, right):
            x, padding = functional.pad(x, (left, right, top, bottom)), (0, 0)
        return functional.conv2d(
            x, self.weight, None, self.stride, padding, self.dilation, self.groups
        )  # [n, o, H', W']

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """Spread windowed rows [n, o, h, w] over the inputs that they read."""
        spread = self.spread(rows)
        top, left = (window.top, window.left) if window else (0, 0)
        return clip(
            spread,
            top * self.stride[0] - self.pads[0],
            left * self.stride[1] - self.pads[1],
            self.input_shape,
        )

    def spread(self, rows: Tensor) -> Tensor:
        """Transposed convolution [n, i, h', w'] before the padding is cut off."""
        if self.groups == len(self.weight) and self.weight.shape[1] == 1:
            return spread_by_channel(rows, self.weight, self.stride, self.dilation)
        few = rows.dtype != torch.float64 and len(rows) < _MANY_ROWS
        if self.groups > 1 or max(self.dilation) > 1 or few:
            return functional.conv_transpose2d(
                rows, self.weight, None, self.stride, 0, 0, self.groups, self.dilation
            )
        return transposed_convolution(rows, self.weight, self.stride)

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Convolution:
        """The same map with other weights."""
        return self.reweighted(change(self.weight))


class Dense(LinearMap):
    """A matrix ``weight`` [numel(output), numel(input)] between activations of any shapes."""

    def __init__(self, weight: Tensor, input_shape: Shape, output_shape: Shape) -> None:
        super().__init__(input_shape, output_shape, terms=weight.shape[1])
        self.weight = weight

    def apply(self, x: Tensor) -> Tensor:
        """``x`` [n, *input_shape] through the matrix."""
        return (x.flatten(1) @ self.weight.T).reshape(len(x), *self.output_shape)

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """Rows [n, *output_shape] (or a window of them) times the matrix."""
        weight = self.weight
        if window is not None:
            planes = weight.T.reshape(-1, *self.output_shape)  # [i, o, H, W]
            weight = crop(planes, window).flatten(1).T  # [o*h*w, i]
        pulled = weight.T @ rows.flatten(1).T  # [i, n]: rows stay last in memory
        return pulled.T.reshape(len(rows), *self.input_shape), None

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Dense:
        """The same map with other weights."""
        return Dense(change(self.weight), self.input_shape, self.output_shape)


class Scaling(LinearMap):
    """Elementwise product with ``factor``, broadcastable to ``shape``."""

    def __init__(self, factor: Tensor, shape: Shape) -> None:
        super().__init__(shape, shape, terms=1)
        self.factor = factor

    def apply(self, x: Tensor) -> Tensor:
        """``factor * x`` for ``x`` [n, *shape]."""
        return x * self.factor

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """A diagonal map is its own adjoint."""
        factor = self.factor if window is None else self.factor.expand(self.input_shape)
        return rows * crop(factor, window), window

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Scaling:
        """The same map with other weights."""
        return Scaling(change(self.factor), self.input_shape)


class Reshape(LinearMap):
    """The same entries in another shape (ONNX ``Flatten``, ``Reshape``): an isometry."""

    def __init__(self, input_shape: Shape, output_shape: Shape) -> None:
        super().__init__(input_shape, output_shape, terms=0)

    def apply(self, x: Tensor) -> Tensor:
        """``x`` [n, *input_shape] seen as [n, *output_shape]."""
        return x.reshape(len(x), *self.output_shape)

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """The inverse reshape."""
        full = embed(rows, window, self.output_shape)
        return full.reshape(len(full), *self.input_shape), None

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Reshape:
        """It has no weights."""
        return self


class Replication(LinearMap):
    """One grey channel copied to ``channels`` equal ones; norm ``sqrt(channels)``."""

    def __init__(self, channels: int, input_shape: Shape) -> None:
        super().__init__(input_shape, (channels, *input_shape[1:]), terms=0)
        self.channels = channels

    def apply(self, x: Tensor) -> Tensor:
        """``x`` [n, 1, h, w] repeated along the channel axis."""
        return x.expand(-1, self.channels, -1, -1)

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """Sum over the copies."""
        return rows.sum(1, keepdim=True), window

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Replication:
        """It has no weights."""
        return self


class Rescaling(LinearMap):
    """Separable rescaling ``rows @ image @ columns^T`` of every channel.

    ``rows`` [H, h] and ``columns`` [W, w]; input shape (c, h, w).
    """

    def __init__(self, rows: Tensor, columns: Tensor, channels: int) -> None:
        # A product with a zero weight is exact: only the widest row of weights rounds.
        terms = sum(int((part != 0).sum(1).max()) for part in (rows, columns))
        super().__init__(
            (channels, rows.shape[1], columns.shape[1]),
            (channels, rows.shape[0], columns.shape[0]),
            terms,
        )
        self.rows, self.columns = rows, columns

    def apply(self, x: Tensor) -> Tensor:
        """Rescale ``x`` [n, c, h, w] to [n, c, H, W]."""
        return self.rows @ x @ self.columns.T

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """The transposed rescaling, in the window of pixels that the rows depend on."""
        if window is None:
            return self.rows.T @ rows @ self.columns, None
        down, across = self.rows[window.slices[0]], self.columns[window.slices[1]]
        (top, height), (left, width) = _support(down), _support(across)
        last = rows.movedim(0, -1)  # [c, h, w, n]
        kept = down[:, top : top + height].T @ last.flatten(2)  # [c, h', w*n]
        apart = kept.reshape(*kept.shape[:2], *last.shape[2:])  # [c, h', w, n]
        kept = across[:, left : left + width].T @ apart
        return kept.movedim(-1, 0), Window(top, left, height, width)

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Rescaling:
        """The same map with other weights."""
        return Rescaling(change(self.rows), change(self.columns), self.input_shape[0])


def _support(matrix: Tensor) -> Pair:
    """Start and length of the range of columns that are not all zero (at least one)."""
    used = matrix.any(0).nonzero().flatten().tolist() or [0]
    return used[0], used[-1] - used[0] + 1


def materialize(linear: LinearMap) -> Dense:
    """The same map as a matrix, exact up to float64 rounding."""
    size = math.prod(linear.input_shape)
    basis = torch.eye(size, dtype=torch.float64).reshape(size, *linear.input_shape)
    columns = linear.apply(basis).flatten(1)  # [numel(input), numel(output)]
    return Dense(columns.T.contiguous(), linear.input_shape, linear.output_shape)
