"""Training of a downstream classifier, in stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import cross_entropy

from reaas.certify import DownstreamClassifier, InvalidArgumentError

from ._config import MAX_STEPS, HeadConfig
from ._data import PrincipalAxes, Samples, check_samples
from ._layers import HeadLayers, truncated_radius_loss
from ._selection import Candidate, choose, rate

Loss = Callable[[HeadLayers, Tensor, Tensor], Tensor]
Progress = Callable[[int, int], None]

_RESTARTS = 4
"""Cycles of plain training: where the features are overfitted, an earlier one is chosen."""


def train_head(
    features: ArrayLike,
    labels: ArrayLike,
    config: HeadConfig | None = None,
    *,
    progress: Progress | None = None,
) -> DownstreamClassifier:
    """Train a classifier on features `[n, d]` with labels `[n]` in 0..k-1.

    Features may also be `[n, copies, d]`, several noisy copies of each input, with the objective
    `noise`. Cross-entropy comes first (for `noise` on noisy features); then, unless the objective
    is `plain`, one stage for each of `config.margin_scales` maximises the certified radius up to
    that limit. The head of the stage that is best on held-out inputs is returned: by accuracy, by
    certified ACR, or by smoothed ACR.

    `progress(done, total)` counts epochs. Raises `InvalidArgumentError`, which names the field.
    """
    config = config or HeadConfig()
    samples = check_samples(features, labels)
    _check_noise_source(samples, config)
    training, held = samples.split(config.held_out, np.random.default_rng(config.seed))
    run = _Run(training, int(samples.labels.max()) + 1, config, progress)
    candidates: list[Candidate] = []
    for stage in _stages(config):
        run.train(stage)
        candidates.append(rate(run.classifier(), held, config))
    return choose(candidates, config.accuracy_share)


def _check_noise_source(samples: Samples, config: HeadConfig) -> None:
    if config.objective == "noise" and (config.noise_sigma is None) == (samples.copies == 1):
        raise InvalidArgumentError(
            "noise_sigma",
            f"got {config.noise_sigma} with {samples.copies} copies of each input: the objective "
            "'noise' needs a sigma for clean features, and none for noisy copies",
        )


@dataclass(frozen=True)
class _Stage:
    """A loss and the epochs spent on it."""

    loss: Loss
    epochs: int
    noisy: bool = False
    """Whether `noise_sigma` is added. Not in the margin stages: what they reward is the certified
    radius of the feature itself, and smoothed ACR was 10% lower with the radii of noisy ones."""


def _stages(config: HeadConfig) -> list[_Stage]:
    """Cross-entropy, then the margins; a stage without an epoch is left out."""
    if config.objective == "plain":
        shares = _shares(config.epochs, _RESTARTS)
        stages = [_Stage(_cross_entropy_loss(0.0), epochs) for epochs in shares]
    else:
        first = (config.epochs + 1) // 2
        shares = _shares(config.epochs - first, len(config.margin_scales))
        stages = [_Stage(_cross_entropy_loss(config.weight_decay), first, noisy=True)]
        for limit, epochs in zip(config.margin_scales, shares, strict=True):
            stages.append(_Stage(_margin_loss(limit), epochs))
    return [stage for stage in stages if stage.epochs]


def _shares(epochs: int, parts: int) -> list[int]:
    return [epochs * (i + 1) // parts - epochs * i // parts for i in range(parts)]


def _cross_entropy_loss(weight_decay: float) -> Loss:
    def loss(head: HeadLayers, features: Tensor, labels: Tensor) -> Tensor:
        value = cross_entropy(head(features), labels)
        for weight in head.weights:
            value = value + weight_decay * weight.square().sum()
        return value

    return loss


def _margin_loss(limit: float) -> Loss:
    def loss(head: HeadLayers, features: Tensor, labels: Tensor) -> Tensor:
        return truncated_radius_loss(head.certified_radius(head(features), labels), limit)

    return loss


@dataclass(frozen=True)
class _Schedule:
    """One cycle of Adam's rate over a stage: up in a fifth of it, then down to nothing."""

    peak: float
    steps: int

    def rate(self, step: int) -> float:
        rise = max(1, self.steps // 5)
        if step < rise:
            return self.peak * (step + 1) / rise
        share = (step - rise) / max(1, self.steps - rise)
        return self.peak * 0.5 * (1 + float(np.cos(np.pi * share)))


class _Run:
    """The state of one training: head, optimiser's data, random stream."""

    def __init__(
        self, training: Samples, classes: int, config: HeadConfig, progress: Progress | None
    ) -> None:
        rows, labels = training.flat
        self._axes = PrincipalAxes.of(rows)
        self._features = self._axes.enter(rows)  # [m, d]
        self._labels = torch.from_numpy(labels)
        self._generator = torch.Generator().manual_seed(config.seed)
        widths = [rows.shape[1], *config.hidden, classes]
        self._head = HeadLayers(widths, self._axes.spread, self._generator)
        self._noise = (config.noise_sigma or 0.0) / self._axes.scale
        self._batch = max(config.batch_size, -(-len(rows) // MAX_STEPS))
        self._config, self._progress, self._done = config, progress, 0

    def train(self, stage: _Stage) -> None:
        """One stage with its own optimiser."""
        optimiser = torch.optim.Adam(self._head.parameters())
        batches = -(-len(self._labels) // self._batch)
        schedule = _Schedule(self._config.learning_rate, stage.epochs * batches)
        for epoch in range(stage.epochs):
            order = torch.randperm(len(self._labels), generator=self._generator)
            for i, rows in enumerate(torch.split(order, self._batch)):
                for group in optimiser.param_groups:
                    group["lr"] = schedule.rate(epoch * batches + i)
                optimiser.zero_grad()
                torch.autograd.backward(self._loss(stage, rows))
                optimiser.step()
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._config.epochs)

    def classifier(self) -> DownstreamClassifier:
        """The head as it is now, on the features themselves."""
        return self._axes.classifier(*self._head.arrays())

    def _loss(self, stage: _Stage, rows: Tensor) -> Tensor:
        features = self._features[rows]  # [b, d]
        if stage.noisy and self._noise:
            noise = torch.randn(features.shape, generator=self._generator)
            features = features + self._noise * noise
        return stage.loss(self._head, features, self._labels[rows])
