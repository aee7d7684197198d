"""Layers that are 1-Lipschitz by construction: orthogonal convolutions with MaxMin.

Adaptive orthogonal convolutions (Boissin et al. 2025, arXiv 2501.07930) from `orthogonium`: a
kernel of k pixels and stride s is an orthogonal convolution of k - s + 1 pixels followed by an
orthogonal map of s x s patches. MaxMin (Anil et al. 2019) preserves the norm of gradients, which
ReLU halves. Nothing here is a certificate: the exported kernels are measured like any others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, unfold

from reaas_pretrain.recipe import RecipeError

if TYPE_CHECKING:
    from reaas_pretrain.encoder import ConvEncoder

START_IMAGES = 3_000
"""Images that the start looks at: ten times as many patches as the widest layer has directions."""
START_PATCHES = 50_000
"""Patches drawn from them for a layer's covariance, for the same reason."""


def orthogonal_convolution(
    inputs: int, outputs: int, kernel: int, stride: int, padding: int
) -> nn.Conv2d:
    """A convolution whose operator has norm 1 at most, whatever its parameters are."""
    package = _package()
    layer = package.layers.AdaptiveOrthoConv2d(
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        padding_mode="zeros",
        ortho_params=_parametrisation(),
    )
    return cast(nn.Conv2d, layer)


def orthogonal_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map with orthonormal rows."""
    linear = _package().layers.OrthoLinear(inputs, outputs, ortho_params=_parametrisation())
    return cast(nn.Linear, linear)


def maxmin(hidden: Tensor) -> Tensor:
    """`[n, c, ...]`: channel i and channel i + c/2 are put in order, the larger one first."""
    first, second = hidden.chunk(2, dim=1)
    return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=1)


def _parametrisation() -> Any:
    """Orthogonality by QR: exact, stateless, and half the time of Bjorck's iterations here."""
    package = _package()
    return package.reparametrizers.OrthoParams(
        spectral_normalizer=package.reparametrizers.BatchedIdentity,
        orthogonalizer=package.model_factory.classparam.ClassParam(
            package.reparametrizers.BatchedQROrthogonalization
        ),
    )


def _package() -> Any:
    try:
        import orthogonium.layers  # type: ignore[import-untyped]
        import orthogonium.model_factory.classparam  # type: ignore[import-untyped]
        import orthogonium.reparametrizers  # type: ignore[import-untyped]
    except ImportError as error:
        raise RecipeError(
            "encoder.family = orthogonal needs the package orthogonium (pip install 'orthogonium')"
        ) from error
    return orthogonium


@torch.no_grad()
def principal_start(encoder: ConvEncoder, images: Tensor) -> None:
    """Starts every layer on the principal directions of its own input, `[n, 3, s, s]` in [0, 1].

    A random orthogonal start throws away most of the images' variance where a layer has fewer
    outputs than inputs; a feature that starts small has small margins for a long time. Biases put
    the two channels of a MaxMin pair `offset` deviations apart, so that the start is nearly linear.
    """
    hidden = (images - encoder.mean) / encoder.std  # [n, 3, s, s]
    config = encoder.config
    for layer in encoder.layers[:-1]:
        between = conv2d(hidden, cast(Tensor, layer.weight_1), padding=config.padding)
        patches = unfold(between, config.stride, stride=config.stride)  # [n, c s^2, patches]
        rows = patches.transpose(1, 2).flatten(0, 1)  # [patches, c s^2]
        rows = rows[torch.randperm(len(rows))[:START_PATCHES]]
        outputs = layer.weight.shape[0]
        directions, centre = _principal(rows, outputs)
        mixed = _rotation(outputs) @ directions  # [c_out, c s^2]
        layer.weight_2 = mixed.view(outputs, -1, config.stride, config.stride)
        bias = cast(Tensor, layer.bias)
        bias.copy_(-mixed @ centre)
        hidden = torch.cat([layer(part) for part in torch.split(hidden, 500)])  # [n, c_out, h, w]
        apart = config.offset * hidden.std() * _halves(outputs)  # [c_out]
        bias.add_(apart)
        hidden = maxmin(hidden + apart.view(-1, 1, 1))
    directions, centre = _principal(hidden.flatten(1), config.feature_dim)
    encoder.linear.weight = directions.contiguous()
    encoder.linear.bias.copy_(-directions @ centre)


def _principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Orthonormal principal directions `[count, d]` of `rows [n, d]`, and their mean `[d]`."""
    centre = rows.mean(0)
    centred = rows - centre
    if count == rows.shape[1]:
        return torch.linalg.eigh(centred.T @ centred)[1].T, centre
    _, _, directions = torch.pca_lowrank(centred, count, center=False, niter=3)
    return directions.T, centre


def _rotation(size: int) -> Tensor:
    """A random orthogonal matrix: it spreads the variance evenly over a layer's channels."""
    rotation: Tensor = torch.linalg.qr(torch.randn(size, size))[0]
    return rotation


def _halves(channels: int) -> Tensor:
    """+1 for the first half of the channels, -1 for the second."""
    return torch.ones(channels).masked_fill(torch.arange(channels) >= channels // 2, -1.0)
