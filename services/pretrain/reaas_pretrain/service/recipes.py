"""The recipes and data sets that a client may name, and what a request makes of them."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import tomli_w
from reaas_runtime import DomainError, Reason
from reaas_runtime.manifest import NAME_PATTERN

from reaas_pretrain.images import SOURCES
from reaas_pretrain.inside import OutsideError, resolved_inside
from reaas_pretrain.recipe import Recipe, RecipeError, load_recipe, parse_recipe
from reaas_pretrain.service.overrides import toml_value
from reaas_pretrain.service.run import Spec

_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class ChosenRecipe:
    """A recipe with the client's own values in it, checked."""

    recipe: Recipe
    toml: str


class Catalogue:
    """Recipe files and data directories; looked at anew for every request."""

    def __init__(self, recipes_dir: Path, data_root: Path) -> None:
        self._recipes_dir = recipes_dir
        self.data_root = data_root

    def recipes(self) -> list[tuple[str, Recipe]]:
        """Every recipe that can be used, by name; a broken file is left out."""
        found = []
        for name in self._recipe_names():
            try:
                found.append((name, load_recipe(self._recipes_dir / f"{name}.toml")))
            except RecipeError:
                continue
        return found

    def datasets(self) -> list[str]:
        """Names of the directories of images."""
        names = sorted(path.name for path in self.data_root.iterdir() if path.is_dir())
        return [name for name in names if _NAME.fullmatch(name) and self._is_inside(name)]

    def choose(self, spec: Spec) -> ChosenRecipe:
        """The recipe that `spec` asks for. Raises DomainError INVALID_RECIPE naming the key."""
        values = self._load(spec.recipe)
        for key, text in spec.overrides.items():
            _set(values, key, toml_value(key, text))
        schedule = {"epochs": spec.epochs or None, "seed": spec.seed}
        for key, value in schedule.items():
            if value is not None:
                _set(values, f"schedule.{key}", value)
        try:
            recipe = parse_recipe(values, origin=f"recipe {spec.recipe!r}")
        except RecipeError as error:
            raise _invalid("spec", str(error)) from error
        if not _NAME.fullmatch(recipe.name):
            raise _invalid(
                "spec.overrides",
                f"name {recipe.name!r} cannot be a model's: 1 to 63 letters, digits, '.', '_', '-'",
            )
        return ChosenRecipe(recipe, tomli_w.dumps(values))

    def directory(self, spec: Spec) -> Path:
        """The directory of a run's images. Raises DomainError INVALID_DATASET."""
        name = spec.dataset
        if not name:
            return self.data_root
        directory = self.data_root / name
        if not (_NAME.fullmatch(name) and directory.is_dir()):
            known = ", ".join(self.datasets()) or "none"
            raise _no_images("dataset", name, f"there is no data set {name!r}; there are: {known}")
        return self._inside("dataset", name, directory)

    def check_images(self, spec: Spec) -> None:
        """Raise DomainError INVALID_DATASET unless `spec` names images that may be read."""
        directory, name = self.directory(spec), spec.source
        if name in ("", *SOURCES):
            return
        path = directory / name
        inside = bool(_NAME.fullmatch(name)) and path.exists()
        if not (inside and (path.is_dir() or path.suffix == ".npz")):
            raise _no_images(
                "source",
                name,
                f"source {name!r} is none of {', '.join(SOURCES)}, nor a folder or .npz file of "
                "the data set",
            )
        self._inside("source", name, path)

    def _is_inside(self, name: str) -> bool:
        try:
            resolved_inside(self.data_root / name, self.data_root)
        except OutsideError:
            return False
        return True

    def _inside(self, field: str, name: str, path: Path) -> Path:
        """`path`, if it stays below the data root; the process that reads it looks again."""
        try:
            resolved_inside(path, self.data_root)
        except OutsideError as error:
            raise _no_images(field, name, f"{field} {name!r}: {error}") from error
        return path

    def _recipe_names(self) -> list[str]:
        names = sorted(path.stem for path in self._recipes_dir.glob("*.toml"))
        return [name for name in names if _NAME.fullmatch(name)]

    def _load(self, name: str) -> dict[str, Any]:
        names = self._recipe_names()
        if name not in names:
            raise _invalid(
                "spec.recipe", f"there is no recipe {name!r}; there are: {', '.join(names)}", name
            )
        try:
            return tomllib.loads((self._recipes_dir / f"{name}.toml").read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise _invalid("spec.recipe", f"recipe {name!r} cannot be read: {error}") from error


def image_arguments(spec: Spec, root: PurePath) -> list[str]:
    """Where a training finds the images of `spec`, where the data root is `root`."""
    directory = root / spec.dataset
    source = spec.source if spec.source in ("", *SOURCES) else str(directory / spec.source)
    chosen = ["--source", source] if source else []
    return ["--data", str(directory), *chosen, "--inside", str(root)]


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a key that no recipe has is found by the recipe's own check."""
    *sections, last = key.split(".")
    for part in sections:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise _invalid(f"spec.overrides[{key}]", f"unknown key {key}: {part} is no section")
    values[last] = value


def _invalid(field: str, message: str, got: str = "") -> DomainError:
    return DomainError(Reason.INVALID_RECIPE, message, field=field, got=got)


def _no_images(field: str, got: str, message: str) -> DomainError:
    return DomainError(Reason.INVALID_DATASET, message, field=f"spec.{field}", got=got)
