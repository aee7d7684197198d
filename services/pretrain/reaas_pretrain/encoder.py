"""The encoder: normalisation, strided convolutions with ReLU or MaxMin, one linear layer."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from reaas_pretrain.orthogonal import maxmin, orthogonal_convolution, orthogonal_linear
from reaas_pretrain.sections import EncoderConfig


class ConvEncoder(nn.Module):
    """`f: [n, 3, s, s] in [0, 1] -> [n, d]`; (x - mean) / std is its first operation.

    No batch normalisation: nothing leaks between query and key, and the layers' operator norms are
    those of the weights themselves.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1))
        widths = (3, *config.channels)
        orthogonal = config.family == "orthogonal"
        convolution = orthogonal_convolution if orthogonal else nn.Conv2d
        self.activation = maxmin if orthogonal else torch.relu
        self.convolutions = nn.ModuleList(
            convolution(a, b, config.kernel, config.stride, config.padding)
            for a, b in pairwise(widths)
        )
        sides = [config.image_size]
        for _ in config.channels:
            sides.append((sides[-1] + 2 * config.padding - config.kernel) // config.stride + 1)
        if sides[-1] < 1:
            raise ValueError(
                f"{len(config.channels)} convolutions of kernel {config.kernel} and stride"
                f" {config.stride} leave nothing of {config.image_size} pixels"
            )
        self.sides = tuple(sides)
        linear = orthogonal_linear if orthogonal else nn.Linear
        self.linear = linear(widths[-1] * sides[-1] ** 2, config.feature_dim)
        if not orthogonal:  # the parametrisation of orthogonal kernels needs them contiguous
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def operator_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of one input of every layer, as its operator sees it."""
        widths = (3, *self.config.channels)
        images = zip(widths, self.sides, strict=True)
        shapes = [(1, width, side, side) for width, side in images][: len(self.convolutions)]
        return (*shapes, (1, self.linear.in_features))

    @property
    def layers(self) -> tuple[nn.Conv2d | nn.Linear, ...]:
        """The affine maps in order, input side first."""
        convolutions = (cast(nn.Conv2d, layer) for layer in self.convolutions)
        return (*convolutions, self.linear)

    def forward(self, images: Tensor) -> Tensor:
        hidden = (images - self.mean) / self.std  # [n, 3, s, s]
        for convolution in self.convolutions:
            hidden = self.activation(convolution(hidden))  # [n, c, h, w]
        features: Tensor = self.linear(hidden.flatten(1))  # [n, d]
        return features


class ProjectionHead(nn.Sequential):
    """MoCo v2's MLP on top of the feature; used in training only."""

    def __init__(self, feature_dim: int, hidden: int) -> None:
        super().__init__(nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Linear(hidden, feature_dim))
