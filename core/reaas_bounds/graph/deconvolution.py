"""Transposed convolution as a layer (ONNX ``ConvTranspose``): the adjoint of a convolution."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution
from reaas_bounds.graph.window import Window, embed


class TransposedConvolution(LinearMap):
    """``C^T`` for ``convolution`` C, which maps this layer's outputs to its inputs.

    Its norm is that of C, and its adjoint is C.
    """

    def __init__(self, convolution: Convolution) -> None:
        outputs, _, *kernel = convolution.weight.shape
        terms = outputs // convolution.groups * math.prod(kernel)
        super().__init__(convolution.output_shape, convolution.input_shape, terms)
        self.convolution = convolution

    def apply(self, x: Tensor) -> Tensor:
        """Spread ``x`` [n, i, H, W] over the outputs, [n, o, H', W']."""
        return self.convolution.adjoint(x)

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """Correlate the rows with the kernel."""
        return self.convolution.apply(embed(rows, window, self.output_shape)), None

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> TransposedConvolution:
        """The same geometry with another kernel."""
        return TransposedConvolution(self.convolution.with_weights(change))
