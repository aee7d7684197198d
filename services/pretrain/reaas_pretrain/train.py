"""The training loop: epochs of an objective with a spectral term, resumable bit for bit."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from reaas_pretrain.augment import random_view
from reaas_pretrain.checkpoint import CHECKPOINT, Checkpoint, CheckpointError
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.evaluate import encode, knn_accuracy
from reaas_pretrain.images import LabelledImages
from reaas_pretrain.moco import EndToEnd, MoCo
from reaas_pretrain.objective import Objective
from reaas_pretrain.orthogonal import START_IMAGES, principal_start
from reaas_pretrain.recipe import OptimiserConfig, Recipe
from reaas_pretrain.spectral import SpectralTerm, spread

LOG = "log.csv"
REPORT_ITERATIONS = 10
"""Power iterations for the norms of the log: an indication, hundredths too low at most."""


class DivergedError(ArithmeticError):
    """The loss is no longer a number; the message names the step and the last good checkpoint."""


class Watcher(Protocol):
    """Told how a run goes, for progress bars."""

    def stepped(self, step: int, progress: float, loss: float) -> None: ...

    def finished_epoch(self, row: dict[str, float]) -> None: ...


@dataclass(frozen=True)
class Monitor:
    """Images that k-NN accuracy is watched on; never trained on."""

    train: LabelledImages
    test: LabelledImages

    def accuracy(self, encoder: ConvEncoder) -> float:
        """Top-1 of k-NN on the current features."""
        train, test = encode(encoder, self.train.images), encode(encoder, self.test.images)
        return knn_accuracy(train, self.train.labels, test, self.test.labels)


@dataclass(frozen=True)
class _Step:
    loss: float
    accuracy: float
    spread: float


def learning_rate(progress: float, config: OptimiserConfig) -> float:
    """Linear warm-up, then half a cosine down to zero; `progress` in [0, 1] is the share done."""
    if progress < config.warmup:
        return config.learning_rate * (progress + 1e-3) / (config.warmup + 1e-3)
    done = (progress - config.warmup) / (1 - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def build_objective(recipe: Recipe, encoder: ConvEncoder) -> Objective:
    """The objective that the recipe asks for."""
    if recipe.contrast.mechanism == "end-to-end":
        return EndToEnd(encoder, recipe.contrast)
    return MoCo(encoder, recipe.contrast)


def build_optimiser(objective: Objective, config: OptimiserConfig) -> torch.optim.Optimizer:
    """The recipe's optimiser of what the objective trains; the loop sets its learning rate."""
    if config.method == "adam":
        return torch.optim.AdamW(
            objective.trained(),
            lr=0.0,
            betas=(config.momentum, 0.999),
            weight_decay=config.weight_decay,
        )
    return torch.optim.SGD(
        objective.trained(),
        lr=0.0,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )


class Trainer:
    """One run of a recipe on images `[n, 3, h, w]` uint8; results go to `directory`.

    The only source of chance is one generator whose state is in the checkpoint, so a run that was
    cut off and resumed computes what an uninterrupted one computes, bit for bit (same machine, same
    thread count, no time budget). With `max_seconds` the schedule follows the larger of the shares
    of steps and of seconds done: the run ends in time with its cosine completed.
    """

    def __init__(
        self,
        recipe: Recipe,
        images: Tensor,
        directory: Path,
        *,
        data: str = "",
        monitor: Monitor | None = None,
        watcher: Watcher | None = None,
        max_seconds: float = math.inf,
    ) -> None:
        if len(images) < recipe.schedule.batch:
            raise ValueError(
                f"{len(images)} images are less than a batch of {recipe.schedule.batch}"
            )
        self.recipe, self.images, self.directory, self.data = recipe, images, directory, data
        self.monitor, self.watcher, self.max_seconds = monitor, watcher, max_seconds
        torch.manual_seed(recipe.schedule.seed)
        self.encoder = ConvEncoder(recipe.encoder)
        if recipe.encoder.family == "orthogonal":
            some = torch.randperm(len(images))[:START_IMAGES]
            principal_start(self.encoder, images[some].float() / 255)
        self.model = build_objective(recipe, self.encoder)
        self.spectral = SpectralTerm(self.encoder, recipe.spectral.variant)
        self.spectral.norms(self.encoder, iterations=20)
        self.optimiser = build_optimiser(self.model, recipe.optimiser)
        self.generator = torch.Generator().manual_seed(recipe.schedule.seed)
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        total = self.recipe.schedule.epochs * (len(self.images) // self.recipe.schedule.batch)
        return min(1.0, max(self.step / total, self.seconds / self.max_seconds))

    def resume(self) -> None:
        """Goes on from the directory's checkpoint; raises `CheckpointError` if it can't."""
        saved = Checkpoint.load(self.directory)
        now = self.recipe.model_dump(mode="json")
        changed = sorted(key for key in now if saved.recipe.get(key) != now[key])
        if changed:
            raise CheckpointError(
                f"{self.directory / CHECKPOINT} was written by another recipe: {', '.join(changed)}"
                " differ; resume with the same recipe or choose another --out"
            )
        self.model.load_state_dict(saved.model)
        self.spectral.load_state_dict(saved.spectral)
        self.optimiser.load_state_dict(saved.optimiser)
        self.generator.set_state(saved.generator)
        self.epoch, self.step, self.seconds = saved.epoch, saved.step, saved.seconds
        self.history = saved.history

    def run(self, until_epoch: int | None = None) -> None:
        """Trains to the end (or to `until_epoch`), with a checkpoint after every epoch."""
        self.directory.mkdir(parents=True, exist_ok=True)
        last = min(until_epoch or self.recipe.schedule.epochs, self.recipe.schedule.epochs)
        while self.epoch < last and self.progress < 1:
            row = self._epoch()
            self.epoch += 1
            row["epoch"] = self.epoch
            if self.monitor and (
                self.epoch % self.recipe.schedule.monitor_every == 0 or self.progress >= 1
            ):
                row["knn_top1"] = self.monitor.accuracy(self.encoder)
            self.history.append(row)
            self._write_log()
            self._checkpoint().save(self.directory)
            if self.watcher:
                self.watcher.finished_epoch(row)

    def _epoch(self) -> dict[str, float]:
        start, augmenting, before = time.perf_counter(), 0.0, self.seconds
        losses, hits, seen, last = 0.0, 0.0, 0, _Step(0.0, 0.0, 0.0)
        for batch in self._batches():
            tick = time.perf_counter()
            views = self._views(batch)
            augmenting += time.perf_counter() - tick
            last = self._step(*views, torch.zeros(len(batch), dtype=torch.int64))
            losses, hits, seen = losses + last.loss, hits + last.accuracy, seen + 1
            self.seconds = before + time.perf_counter() - start
            if self.watcher:
                self.watcher.stepped(self.step, self.progress, last.loss)
            if self.progress >= 1:
                break
        elapsed = time.perf_counter() - start
        with torch.no_grad():
            norms = self.spectral.norms(self.encoder, REPORT_ITERATIONS)
        sigmas = {f"sigma_{i + 1}": float(norm) for i, norm in enumerate(norms)}
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "loss": losses / seen,
            "contrast_top1": hits / seen,
            "sigma_product": float(norms.prod()),
            "spread": last.spread,
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "images_per_second": seen * self.recipe.schedule.batch / elapsed,
            "augmentation_share": augmenting / elapsed,
            **sigmas,
        }

    def _batches(self) -> Iterator[Tensor]:
        size = self.recipe.schedule.batch
        order = torch.randperm(len(self.images), generator=self.generator)
        for start in range(0, len(order) - size + 1, size):
            yield self.images[order[start : start + size]]

    def _views(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        scaled = batch.float() / 255  # [n, 3, h, w]
        first, second = (
            random_view(scaled, self.recipe.augmentation, self.generator) for _ in range(2)
        )
        layout = torch.channels_last
        return first.contiguous(memory_format=layout), second.contiguous(memory_format=layout)

    def _step(self, first: Tensor, second: Tensor, labels: Tensor) -> _Step:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.progress, self.recipe.optimiser)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.schedule.bfloat16):
            loss, features, accuracy = self.model(first, second, labels)
        total = loss
        if self.recipe.spectral.weight:
            norms = self.spectral.norms(self.encoder, self.recipe.spectral.iterations)
            total = loss + self.recipe.spectral.weight * self.spectral(norms, features)
        self.optimiser.zero_grad()
        total.backward()
        kick = torch.nn.utils.clip_grad_norm_(self.model.trained(), self.recipe.optimiser.clip_norm)
        if not bool(torch.isfinite(total) & torch.isfinite(kick)):
            raise DivergedError(self._divergence(float(total.detach()), float(kick)))
        self.optimiser.step()
        self.step += 1
        return _Step(
            float(loss.detach()),
            accuracy,
            float(spread(features.detach())),
        )

    def _divergence(self, loss: float, gradient: float) -> str:
        path = self.directory / CHECKPOINT
        kept = (
            f"the last good state is {path}" if path.is_file() else "no checkpoint was written yet"
        )
        return (
            f"training diverged at step {self.step} (epoch {self.epoch + 1}): loss {loss}, gradient"
            f" norm {gradient}; {kept}. Lower optimiser.learning_rate or optimiser.clip_norm"
        )

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            recipe=self.recipe.model_dump(mode="json"),
            data=self.data,
            epoch=self.epoch,
            step=self.step,
            seconds=self.seconds,
            model=self.model.state_dict(),
            spectral=self.spectral.state_dict(),
            optimiser=self.optimiser.state_dict(),
            generator=self.generator.get_state(),
            history=self.history,
        )

    def _write_log(self) -> None:
        columns = list(dict.fromkeys(key for row in self.history for key in row))
        temporary = (self.directory / LOG).with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.history)
        temporary.replace(self.directory / LOG)
