"""Rescaling whose weights ONNX Runtime computes itself, in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from reaas_bounds.graph.maps import Rescaling

# At least 1 / gamma_12 - 1, which is what the rounding of any rescaling is counted with.
_WEIGHT = 2.0**21


class Interpolation(Rescaling):
    """``rows @ image @ columns^T`` with exact weights, of which the served ones are within
    ``row_errors`` [H, h] and ``column_errors`` [W, w] entrywise.
    """

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        row_errors: Tensor,
        column_errors: Tensor,
        channels: int,
    ) -> None:
        super().__init__(rows, columns, channels)
        self.row_errors, self.column_errors = row_errors, column_errors

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Interpolation:
        """The same map with other weights."""
        return Interpolation(
            change(self.rows),
            change(self.columns),
            change(self.row_errors),
            change(self.column_errors),
            self.input_shape[0],
        )

    @cached_property
    def weighed(self) -> Rescaling:
        """Weights ``|w| + w' / gamma`` for errors w' of them.

        Theorem: sums of terms up to T are counted with a rounding of ``gamma T``, gamma at least
        ``gamma_12``. Served weights ``R + E`` and ``C + F`` make terms of ``(|R| + |E|) |h|
        (|C| + |F|)`` and are off by ``|E| |h| |C| + |R| |h| |F| + |E| |h| |F|``: together at most
        gamma times ``(|R| + a |E|) |h| (|C| + a |F|)`` for ``a >= 1 + 1 / gamma``.
        """
        rows = self.rows.abs() + _WEIGHT * self.row_errors
        columns = self.columns.abs() + _WEIGHT * self.column_errors
        return Rescaling(rows, columns, self.input_shape[0])


def hat(size: int, at: float) -> Tensor:
    """Weights [size] of linear interpolation at the coordinate ``at`` in [0, size - 1]."""
    places = torch.arange(size, dtype=torch.float64)
    return (1 - (places - at).abs()).clamp_min(0.0)


def hat_errors(size: int, at: float, off: float) -> Tensor:
    """What those weights may be off, [size], at a coordinate within ``off`` of ``at``.

    A hat has slopes 1 and -1; only pixels within ``1 + off`` have a weight at all.
    """
    places = torch.arange(size, dtype=torch.float64)
    return torch.where((places - at).abs() < 1 + off, off, 0.0)
