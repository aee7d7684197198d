"""Momentum contrast (He et al. 2020, arXiv 1911.05722): queue, momentum key encoder, loss."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from reaas_pretrain.encoder import ConvEncoder, ProjectionHead
from reaas_pretrain.group import Group
from reaas_pretrain.objective import Objective, Outcome
from reaas_pretrain.sections import ContrastConfig

Similarity = Literal["cosine", "distance", "dot"]


def contrast_logits(
    queries: Tensor, keys: Tensor, queue: Tensor, similarity: Similarity, temperature: float
) -> Tensor:
    """`[n, 1 + K]` similarities over temperature, the positive pair in column 0.

    queries `[n, d]`, keys `[n, d]` (no gradient), queue `[K, d]`; with `cosine` all are expected at
    unit length. `distance` is -||q - k||^2.
    """
    positive = (queries * keys).sum(1, keepdim=True)  # [n, 1]
    negative = queries @ queue.T  # [n, K]
    if similarity == "distance":
        own = queries.square().sum(1, keepdim=True)  # [n, 1]
        positive = 2 * positive - own - keys.square().sum(1, keepdim=True)
        negative = 2 * negative - own - queue.square().sum(1)
    return torch.cat([positive, negative], 1) / temperature


class MoCo(Objective):
    """Query encoder, key encoder (their moving average) and the queue of past keys."""

    queue: Tensor
    pointer: Tensor

    def __init__(
        self, encoder: ConvEncoder, config: ContrastConfig, group: Group | None = None
    ) -> None:
        super().__init__()
        self.config, self.group = config, group or Group()
        self.encoder = encoder
        dim = encoder.config.feature_dim
        self.projection = (
            ProjectionHead(dim, config.projection) if config.projection else nn.Identity()
        )
        self.query = nn.Sequential(encoder, self.projection)
        self.key = deepcopy(self.query).requires_grad_(False)
        queue = torch.randn(config.queue, dim)
        self.register_buffer("queue", self._shaped(queue))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> Outcome:
        """InfoNCE of two views `[n, 3, s, s]`; see `logits`."""
        logits, features = self.logits(*views)
        return Outcome(contrast_loss(logits), features, contrast_accuracy(logits))

    def logits(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[n, 1 + K]` of two views `[n, 3, s, s]`, and the first view's features `[n, d]`.

        The key encoder moves before it encodes, and the keys are enqueued after the logits
        (they are no negatives of themselves).
        """
        features = self.encoder(first).float()  # [n, d]
        queries = self._shaped(self.projection(features).float())  # [n, d]
        with torch.no_grad():
            self.move_key_encoder()
            keys = self._shaped(self.key(second).float())  # [n, d]
        with torch.autocast(first.device.type, enabled=False):
            logits = contrast_logits(
                queries, keys, self.queue.clone(), self.config.similarity, self.config.temperature
            )
        self.enqueue(self.group.gather(keys))
        return logits, features

    @torch.no_grad()
    def move_key_encoder(self) -> None:
        """theta_k <- m theta_k + (1 - m) theta_q."""
        for key, query in zip(self.key.parameters(), self.query.parameters(), strict=True):
            key.lerp_(query, 1 - self.config.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """First in, first out; the queue's size is a multiple of the batch's."""
        start = int(self.pointer)
        self.queue[start : start + len(keys)] = keys
        self.pointer.fill_((start + len(keys)) % len(self.queue))

    def _shaped(self, features: Tensor) -> Tensor:
        return normalize(features, dim=1) if self.config.similarity == "cosine" else features


class EndToEnd(Objective):
    """Contrast within the batch, gradients through both views: no key encoder, no queue."""

    def __init__(
        self, encoder: ConvEncoder, config: ContrastConfig, group: Group | None = None
    ) -> None:
        super().__init__()
        self.config, self.group = config, group or Group()
        self.encoder = encoder

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> Outcome:
        """InfoNCE of two views `[n, 3, s, s]`, the mean of both directions."""
        both = torch.cat(list(views)).contiguous(memory_format=torch.channels_last)
        features = self.encoder(both).float()  # [2n, d]
        with torch.autocast(both.device.type, enabled=False):
            one, other = features.chunk(2)
            there, own = self._direction(one, other)
            back, _ = self._direction(other, one)
        loss = (cross_entropy(there, own) + cross_entropy(back, own)) / 2
        return Outcome(loss, one, (there.argmax(1) == own).float().mean())

    def _direction(self, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `[n, batch]` of own queries `[n, d]`, and which of the keys is their own."""
        everyone = self.group.gather_with_gradient(keys)  # [batch, d]
        logits = pair_logits(queries, everyone, self.config.similarity) / self.config.temperature
        return logits, self.group.rows(torch.arange(len(everyone), device=queries.device))


def pair_logits(first: Tensor, second: Tensor, similarity: Similarity) -> Tensor:
    """`[n, m]` similarities of features `[n, d]` and `[m, d]`, in the unit of the similarity."""
    if similarity == "cosine":
        return normalize(first, dim=1) @ normalize(second, dim=1).T
    products = first @ second.T  # [n, m]
    if similarity == "dot":
        return products
    return 2 * products - first.square().sum(1, keepdim=True) - second.square().sum(1)


def contrast_loss(logits: Tensor) -> Tensor:
    """InfoNCE: cross-entropy of `[n, 1 + K]` logits with the positive pair as label 0."""
    return cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


def contrast_accuracy(logits: Tensor) -> Tensor:
    """Share of queries whose own key is more similar than every key of the queue."""
    return (logits.argmax(1) == 0).float().mean()
