"""The head while it is trained, and the radius that training makes large."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Float = NDArray[np.float64]

_SPREAD_FLOOR = 0.1
"""Axes with less than this share of the largest spread are not sped up further: their noise."""


class HeadLayers(nn.Module):
    """Fully connected layers with ReLU between, on features in their principal axes.

    The first layer is stored divided by `pace`, one over the spread of each axis: one step of Adam
    then moves the logits about as far along every axis, although spreads differ by 100 and more.
    """

    pace: Tensor

    def __init__(self, widths: list[int], spread: Float, generator: torch.Generator) -> None:
        super().__init__()
        floor = _SPREAD_FLOOR * spread.max()
        self.register_buffer("pace", torch.from_numpy(1 / np.maximum(spread, floor)).float())
        shapes = list(zip(widths[1:], widths, strict=False))
        first, *others = (
            _initial(rows, columns, hidden=i + 1 < len(shapes), generator=generator)
            for i, (rows, columns) in enumerate(shapes)
        )
        self.stored = nn.ParameterList([first / self.pace, *others])
        self.biases = nn.ParameterList(torch.zeros(rows) for rows, _ in shapes)

    @property
    def weights(self) -> list[Tensor]:
        """`[out, in]` of each layer."""
        first, *others = self.stored
        return [first * self.pace, *others]

    def forward(self, features: Tensor) -> Tensor:
        """Logits `[n, k]` of `features [n, d]`."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            features = torch.relu(features @ weight.T + bias)
        logits: Tensor = features @ last[0].T + last[1]
        return logits

    def certified_radius(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Certified L2 radii `[n]` of `labels`, negative where another class is ahead.

        `min_j (g_y - g_j) / (||w_y - w_j|| prod ||W_i||)`: exact for a linear head, by the
        product of spectral norms for a deeper one (Tsuzuku et al., arXiv 1802.04034).
        """
        *hidden, last = self.weights
        lengths = (last[:, None] - last[None]).square().sum(2).add(1e-20).sqrt()  # [k, k]
        for weight in hidden:
            lengths = lengths * torch.linalg.matrix_norm(weight, ord=2)
        margins = logits.gather(1, labels[:, None]) - logits  # [n, k]
        radii = margins / lengths[labels]
        return radii.scatter(1, labels[:, None], float("inf")).amin(1)

    def arrays(self) -> tuple[list[Float], list[Float]]:
        """Weights and biases in float64."""
        with torch.no_grad():
            weights = [weight.double().numpy().copy() for weight in self.weights]
            biases = [bias.detach().double().numpy().copy() for bias in self.biases]
        return weights, biases


def _initial(rows: int, columns: int, *, hidden: bool, generator: torch.Generator) -> Tensor:
    # He et al. for hidden layers; a small last layer starts from almost equal classes
    deviation = (2 / columns) ** 0.5 if hidden else 0.01
    return torch.randn(rows, columns, generator=generator) * deviation


def truncated_radius_loss(radii: Tensor, limit: float) -> Tensor:
    """A smooth `1 - mean(clip(radius, 0, limit)) / limit`: ACR, counted only up to `limit`.

    Without a limit a few inputs with huge radii, in the end one class for all, would pay best.
    """
    return torch.sigmoid(4 * (0.5 - radii / limit)).mean()
