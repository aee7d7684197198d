"""The training loop: epochs over images, resumable bit for bit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from reaas_pretrain.augment import random_view
from reaas_pretrain.chance import Chance
from reaas_pretrain.checkpoint import CHECKPOINT, Checkpoint, CheckpointError
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.group import Group
from reaas_pretrain.learner import Learner, Step
from reaas_pretrain.log import Watcher, write_log
from reaas_pretrain.monitor import Monitor
from reaas_pretrain.optimiser import learning_rate
from reaas_pretrain.recipe import Recipe

REPORT_ITERATIONS = 10
"""Power iterations for the norms of the log: an indication, hundredths too low at most."""
CPU = torch.device("cpu")


class DivergedError(ArithmeticError):
    """The loss is no longer a number; the message names the step and the last good checkpoint."""


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
        labels: Tensor | None = None,
        data: str = "",
        monitor: Monitor | None = None,
        watchers: tuple[Watcher, ...] = (),
        max_seconds: float = math.inf,
        group: Group | None = None,
        device: torch.device = CPU,
    ) -> None:
        self.recipe, self.directory, self.data = recipe, directory, data
        self.monitor, self.watchers, self.max_seconds = monitor, watchers, max_seconds
        self.group, self.device = group or Group(), device
        self._check_batch(len(images))
        torch.manual_seed(recipe.schedule.seed)
        self.generator = torch.Generator(device).manual_seed(recipe.schedule.seed)
        self.chance = Chance(self.generator, self.group)
        unknown = torch.full((len(images),), -1, dtype=torch.int64)
        self.images = images.to(device)
        self.labels = (unknown if labels is None else labels).to(device)
        self.learner = Learner(recipe, self.images, self.labels, self.chance, device)
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        self.history: list[dict[str, float]] = []

    @property
    def encoder(self) -> ConvEncoder:
        """What is being trained."""
        return self.learner.encoder

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
        self.learner.restore(saved.model, saved.spectral, saved.optimiser)
        self.generator.set_state(saved.generator)
        self.epoch, self.step, self.seconds = saved.epoch, saved.step, saved.seconds
        self.history = saved.history

    def run(self, until_epoch: int | None = None) -> None:
        """Trains to the end (or to `until_epoch`), with a checkpoint after every epoch.

        Raises `DivergedError` where the loss is no longer a number; the trainer is then back at its
        last checkpoint, if there is one.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        last = min(until_epoch or self.recipe.schedule.epochs, self.recipe.schedule.epochs)
        while self.epoch < last and self.progress < 1:
            row = self._epoch()
            self.epoch += 1
            row["epoch"] = self.epoch
            if self.group.rank == 0:
                self._report(row)

    def _report(self, row: dict[str, float]) -> None:
        looked = self.epoch % self.recipe.schedule.monitor_every == 0 or self.progress >= 1
        if self.monitor and looked:
            row.update(self.monitor.look(self.encoder))
        self.history.append(row)
        self._checkpoint().save(self.directory)
        write_log(self.directory, self.history)
        for watcher in self.watchers:
            watcher.finished_epoch(row)

    def _epoch(self) -> dict[str, float]:
        start, cpu, augmenting = time.perf_counter(), time.process_time(), 0.0
        before, steps = self.seconds, list[Step]()
        for chosen in self.batches():
            tick = time.perf_counter()
            views, labels = self.draw(chosen)
            augmenting += time.perf_counter() - tick
            steps.append(self.take(views, labels))
            self.seconds = self.group.first(before + time.perf_counter() - start)
            for watcher in self.watchers:
                watcher.stepped(self.step, self.progress, steps[-1].loss)
            if self.progress >= 1:
                break
        elapsed = time.perf_counter() - start
        busy = (time.process_time() - cpu) / torch.get_num_threads()
        shares = {"augmentation_share": augmenting / elapsed, "cpu_share": busy / elapsed}
        return self._row(steps, elapsed) | shares

    def _row(self, steps: list[Step], elapsed: float) -> dict[str, float]:
        """The epoch's row of the log."""
        norms = self.learner.norms(REPORT_ITERATIONS)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "loss": sum(step.loss for step in steps) / len(steps),
            "contrast_top1": sum(step.accuracy for step in steps) / len(steps),
            "sigma_product": float(norms.prod()),
            "spread": steps[-1].spread,
            "learning_rate": self.learner.optimiser.param_groups[0]["lr"],
            "images_per_second": len(steps) * self.recipe.schedule.batch / elapsed,
            **{f"sigma_{i + 1}": float(norm) for i, norm in enumerate(norms)},
        }

    def batches(self) -> Iterator[Tensor]:
        """Own rows of every batch of an epoch, as places in the images."""
        size = self.recipe.schedule.batch
        order = self.chance.order(len(self.images))
        for start in range(0, len(order) - size + 1, size):
            yield self.group.rows(order[start : start + size])

    def draw(self, chosen: Tensor) -> tuple[list[Tensor], Tensor]:
        """Fresh views `[n, 3, s, s]` and the labels `[n]` of images at these places."""
        scaled = self.images[chosen].float() / 255  # [n, 3, h, w]
        views = [
            random_view(scaled, self.recipe.augmentation, self.chance)
            for _ in range(self.learner.objective.views)
        ]
        laid_out = [view.contiguous(memory_format=torch.channels_last) for view in views]
        return laid_out, self.labels[chosen]

    def take(self, views: list[Tensor], labels: Tensor) -> Step:
        """One step on own rows of a batch; raises `DivergedError` if it can't be taken."""
        rate = learning_rate(self.progress, self.recipe.optimiser)
        done = self.learner.step(views, labels, rate)
        if not done.finite:
            raise DivergedError(self._give_up(done))
        self.step += 1
        return done

    def _give_up(self, bad: Step) -> str:
        """Goes back to the last good checkpoint; says what happened and where that is."""
        where = f"step {self.step} (epoch {self.epoch + 1})"
        kept = "no checkpoint was written yet"
        if self.epoch:
            self.resume()
            kept = f"the last good state is {self.directory / CHECKPOINT}"
        return (
            f"training diverged at {where}: loss {bad.total}, gradient norm {bad.gradient}; {kept}."
            " Lower optimiser.learning_rate or optimiser.clip_norm"
        )

    def _check_batch(self, images: int) -> None:
        batch, size = self.recipe.schedule.batch, self.group.size
        if images < batch:
            raise ValueError(f"{images} images are less than a batch of {batch}")
        if batch % size:
            raise ValueError(f"schedule.batch must be a multiple of {size} processes, got {batch}")

    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(
            recipe=self.recipe.model_dump(mode="json"),
            data=self.data,
            epoch=self.epoch,
            step=self.step,
            seconds=self.seconds,
            generator=self.generator.get_state(),
            history=self.history,
            **self.learner.state(),
        )
