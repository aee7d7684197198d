"""A recipe: everything that decides what a pre-training run computes, read from one TOML file.

What is wrong with one is a `RecipeError` that names the key, the value got and the limit.
"""

from __future__ import annotations

import reprlib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from reaas_pretrain.sections import (
    AttackConfig,
    AugmentationConfig,
    ContrastConfig,
    EncoderConfig,
    OptimiserConfig,
    ScheduleConfig,
    Section,
    SpectralConfig,
)

_MOST_PROBLEMS = 20


class RecipeError(ValueError):
    """The recipe can't be used; the message names the file, the key and what is wrong with it."""


class Recipe(Section):
    """One pre-training run, but for where its data lie and where its results go."""

    name: str = Field(min_length=1, max_length=200)
    description: str = ""
    objective: Literal["moco", "rocl", "supervised"] = "moco"
    """What a step minimises: `moco` reads [contrast], `rocl` [contrast] and [attack], `supervised`
    is cross-entropy on the images' labels."""
    encoder: EncoderConfig = EncoderConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    contrast: ContrastConfig = ContrastConfig()
    attack: AttackConfig = AttackConfig()
    spectral: SpectralConfig = SpectralConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        queued = self.objective == "moco" and self.contrast.mechanism == "momentum"
        if queued and self.contrast.queue % self.schedule.batch:
            raise ValueError(
                f"contrast.queue must be a multiple of schedule.batch, got {self.contrast.queue}"
                f" and {self.schedule.batch}"
            )
        if self.spectral.weight and self.contrast.projection:
            raise ValueError(
                "spectral.weight needs contrast.projection = 0: a head behind the regularised"
                " layers could undo what the term does to them, and it isn't served"
            )
        return self


def load_recipe(path: Path) -> Recipe:
    """Reads a recipe from a TOML file; raises `RecipeError` naming every key that is wrong."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"recipe {path}: {error}") from error
    return parse_recipe(values, origin=str(path))


def parse_recipe(values: dict[str, Any], origin: str = "recipe") -> Recipe:
    """A recipe from plain values; raises `RecipeError` naming every key that is wrong."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        found = error.errors()
        problems = [_problem(detail) for detail in found[:_MOST_PROBLEMS]]
        if len(found) > _MOST_PROBLEMS:
            problems.append(f"and {len(found) - _MOST_PROBLEMS} more")
        raise RecipeError(f"{origin}: " + "; ".join(problems)) from error


def _problem(detail: Any) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"unknown key {key}"
    message = detail["msg"].removeprefix("Value error, ")
    return (
        f"{key}: {message}, got {reprlib.repr(detail['input'])}"
        if detail["loc"] and key
        else message
    )
