"""What a step minimises: one module an objective, all trained by the same loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn

from reaas_pretrain.encoder import ConvEncoder


class Outcome(NamedTuple):
    """What one batch gave."""

    loss: Tensor
    """Scalar, without the spectral term."""
    features: Tensor
    """`[n, d]` features of the first view, whose spread the spectral term is measured in."""
    accuracy: float
    """Share of the batch that the objective's own question is answered right for."""


class Objective(nn.Module):
    """A loss of two views of a batch, with the encoder that it trains.

    The state of a subclass (moving averages, queues, heads) is in its `state_dict`, so that a
    checkpoint holds all of it.
    """

    encoder: ConvEncoder

    @abstractmethod
    def forward(self, first: Tensor, second: Tensor, labels: Tensor) -> Outcome:
        """The outcome of two views `[n, 3, s, s]` in [0, 1] of images with `labels [n]`.

        Self-supervised objectives don't look at the labels.
        """

    def trained(self) -> Iterator[nn.Parameter]:
        """The parameters that the optimiser moves."""
        return (parameter for parameter in self.parameters() if parameter.requires_grad)
