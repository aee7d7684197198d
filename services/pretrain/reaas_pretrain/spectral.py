"""The spectral-norm term: operator norms of the layers by warm-started power iteration.

For training only. Power iteration approaches a norm from below, so nothing here is a certificate;
certified constants come from `reaas_bounds`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d

from reaas_pretrain.encoder import ConvEncoder

LinearMap = Callable[[Tensor], Tensor]


class SpectralTerm(nn.Module):
    """Norms of an encoder's layer operators, with stride and zero padding as they are.

    The first layer includes the division by the standard deviation, so that the product bounds the
    encoder on pixels in [0, 1]. One right-singular vector a layer is kept as a buffer.
    """

    def __init__(self, encoder: ConvEncoder, variant: Literal["product", "sum", "log"]) -> None:
        super().__init__()
        self.variant = variant
        for index, shape in enumerate(encoder.operator_shapes):
            self.register_buffer(f"right_{index}", _unit(torch.randn(shape)))

    def norms(self, encoder: ConvEncoder, iterations: int = 1) -> Tensor:
        """`[layers]` operator norms, each from below, differentiable in the weights.

        sigma = u . W v with u and v detached: the gradient is that of the top singular value
        (Miyato et al. 2018, on the operator instead of the reshaped kernel: Ryu et al. 2019).
        """
        sigmas = []
        for index in range(len(encoder.layers)):
            forward, adjoint = _operator(encoder, index)
            right = cast(Tensor, getattr(self, f"right_{index}"))
            with torch.no_grad():
                for _ in range(iterations):
                    left = _unit(forward(right))
                    right.copy_(_unit(adjoint(left)))
                left = _unit(forward(right))
            sigmas.append((left * forward(right.clone())).sum())
        return torch.stack(sigmas)

    def forward(self, norms: Tensor, features: Tensor) -> Tensor:
        """The term: product, sum, or sum of logarithms of the norms `[layers]`.

        The last layer's norm is taken in units of the spread of the batch's features `[n, d]`, so
        the product is the Lipschitz bound of the encoder scaled to unit spread. The bare product
        could be had small by shrinking the last layer, which a cosine similarity doesn't notice and
        which gains no certified radius: margins shrink as much.
        """
        norms = torch.cat([norms[:-1], norms[-1:] / spread(features)])
        if self.variant == "product":
            return norms.prod()
        return norms.sum() if self.variant == "sum" else norms.log().sum()


def spread(features: Tensor) -> Tensor:
    """Root mean squared distance of features `[n, d]` from their mean; differentiable."""
    deviation = features - features.mean(0)  # [n, d]
    return deviation.square().sum(1).mean().sqrt().clamp_min(1e-6)


def _operator(encoder: ConvEncoder, index: int) -> tuple[LinearMap, LinearMap]:
    """Layer `index` without its bias as a linear map, and its adjoint."""
    layer = encoder.layers[index]
    if isinstance(layer, nn.Linear):
        weight = layer.weight
        return (lambda v: v @ weight.T), (lambda u: u @ weight)
    kernel = layer.weight / encoder.std if index == 0 else layer.weight  # [c_out, c_in, k, k]
    stride, padding = encoder.config.stride, encoder.config.padding
    side = encoder.operator_shapes[index][-1]
    # Where the stride doesn't divide the size, the last rows that the kernel reaches count too.
    rest = (side + 2 * padding - layer.kernel_size[0]) % stride

    def adjoint(u: Tensor) -> Tensor:
        return conv_transpose2d(u, kernel, stride=stride, padding=padding, output_padding=rest)

    return (lambda v: conv2d(v, kernel, stride=stride, padding=padding)), adjoint


def _unit(vector: Tensor) -> Tensor:
    unit: Tensor = vector / vector.norm().clamp_min(1e-12)
    return unit
