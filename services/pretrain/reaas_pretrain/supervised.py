"""Supervised pre-training: cross-entropy of a linear classifier on the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.objective import Objective, Outcome


class Supervised(Objective):
    """The classifier is thrown away after training; the features are what is served."""

    views: ClassVar[int] = 1

    def __init__(self, encoder: ConvEncoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = nn.Linear(encoder.config.feature_dim, classes)

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> Outcome:
        """Cross-entropy of one view `[n, 3, s, s]` with labels `[n]` in 0..classes - 1."""
        features = self.encoder(views[0]).float()  # [n, d]
        logits = self.classifier(features).float()  # [n, classes]
        accuracy = (logits.argmax(1) == labels).float().mean()
        return Outcome(cross_entropy(logits, labels), features, accuracy)
