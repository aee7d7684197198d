"""What a step minimises: one module an objective, all trained by the same loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from reaas_pretrain.encoder import ConvEncoder


class Outcome(NamedTuple):
    """What one batch gave."""

    loss: Tensor
    """Scalar mean over this process's rows, without the spectral term."""
    features: Tensor
    """`[n, d]` features of the first view, whose spread the spectral term is measured in."""
    accuracy: Tensor
    """Share of the rows that the objective's own question is answered right for."""


class Objective(nn.Module):
    """A loss of two views of a batch, with the encoder that it trains.

    The state of a subclass (moving averages, queues, heads) is in its `state_dict`, so that a
    checkpoint holds all of it.
    """

    encoder: ConvEncoder
    views: ClassVar[int] = 2
    """Views of each image that a step is given."""

    @abstractmethod
    def forward(self, views: Sequence[Tensor], labels: Tensor) -> Outcome:
        """The outcome of views `[n, 3, s, s]` in [0, 1] of the same images, with `labels [n]`.

        Self-supervised objectives don't look at the labels.
        """

    def trained(self) -> list[nn.Parameter]:
        """The parameters that the optimiser moves."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]
