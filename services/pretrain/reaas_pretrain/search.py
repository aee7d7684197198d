"""A small recorded search: short runs around a recipe, ranked by the radius they would certify."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reaas_pretrain.evaluate import Judge, Quality, encode, measure
from reaas_pretrain.recipe import Recipe, RecipeError, parse_recipe
from reaas_pretrain.spectral import spread
from reaas_pretrain.train import Trainer

HEAD_TRAIN, HEAD_TEST = 10_000, 2_000
"""CIFAR-10 images for a point's linear head and for its score: a standard error of one percent."""
REPORT_ITERATIONS = 200
"""Power iterations for the table: within a tenth of a percent. Searching isn't certifying."""


@dataclass(frozen=True)
class Change:
    """What differs from the base recipe: lines of a recipe with dotted keys, parted by `;`."""

    text: str
    """As `contrast.temperature = 0.1; schedule.batch = 512`. `augmentation = {}`: all defaults;
    empty: nothing changes."""

    @property
    def label(self) -> str:
        """What the table says."""
        return self.text or "as it is"

    def applied(self, base: Recipe) -> Recipe:
        """The base recipe with these values changed; `RecipeError` names what is wrong."""
        values = base.model_dump()
        for section, keys in self._sections().items():
            if not isinstance(keys, dict) or not isinstance(values.get(section), dict):
                values[section] = keys
            else:
                values[section] = {**values[section], **keys} if keys else {}
        return parse_recipe(values, origin=f"search change {self.text!r}")

    def _sections(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text.replace(";", "\n"))
        except tomllib.TOMLDecodeError as error:
            raise RecipeError(
                f"search change {self.text!r} is not of the form section.key = value: {error}"
            ) from error


AS_IT_IS = Change("")
SPECTRAL_CHANGES = (
    AS_IT_IS,
    Change("spectral.weight = 0.0"),
    Change("spectral.weight = 0.1"),
    Change("spectral.weight = 0.3"),
    Change("spectral.weight = 1.0"),
    Change("spectral.weight = 10.0"),
    Change("contrast.temperature = 0.1"),
    Change("augmentation = {}"),
)
"""One change at a time from the recipe."""
ORTHOGONAL_CHANGES = (
    AS_IT_IS,
    Change("contrast.temperature = 3.0"),
    Change("contrast.temperature = 100.0"),
    Change("encoder.offset = 0.0"),
    Change("encoder.offset = 2.0"),
)
"""The same for orthogonal layers, which need no spectral term."""


def usual_changes(base: Recipe) -> tuple[Change, ...]:
    """What is worth changing about a recipe."""
    return ORTHOGONAL_CHANGES if base.encoder.family == "orthogonal" else SPECTRAL_CHANGES


@dataclass(frozen=True)
class SearchRow:
    """One short run, measured."""

    label: str
    lipschitz: float
    """Norm product in units of feature spread."""
    loss: float
    quality: Quality


def search(
    base: Recipe,
    images: Tensor,
    judge: Judge,
    count: int,
    epochs: int,
    changes: tuple[Change, ...],
) -> Iterator[SearchRow]:
    """Runs the recipe with each change on the same random `count` of `images [n, 3, s, s]`."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(base.schedule.seed))
    for change in changes:
        recipe = change.applied(base)
        schedule = recipe.schedule.model_copy(update={"epochs": epochs})
        yield _measured(
            change.label,
            recipe.model_copy(update={"schedule": schedule}),
            images[order[:count]],
            judge.head(HEAD_TRAIN, HEAD_TEST),
        )


def _measured(label: str, recipe: Recipe, images: Tensor, judge: Judge) -> SearchRow:
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(recipe, images, Path(directory))
        trainer.run()
    product = float(trainer.learner.norms(REPORT_ITERATIONS).prod())
    return SearchRow(
        label,
        product / float(spread(encode(trainer.encoder, judge.train.images))),
        trainer.history[-1]["loss"],
        measure(partial(encode, trainer.encoder), judge, product),
    )


def search_table(rows: list[SearchRow]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| change | norms / spread | loss | k-NN | linear probe | robust probe | constant ACR |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        quality = row.quality
        lines.append(
            f"| {row.label} | {row.lipschitz:.3f} | {row.loss:.2f} | {quality.knn_top1:.3f}"
            f" | {quality.linear_probe_top1:.3f} | {quality.robust_probe_top1:.3f}"
            f" | {quality.constant_acr:.4f} |"
        )
    return "\n".join(lines)
