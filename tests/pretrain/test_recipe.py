"""Recipes: the shipped ones load, wrong ones say which key is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from reaas_pretrain.recipe import RecipeError, load_recipe, parse_recipe
from reaas_pretrain.search import usual_changes

RECIPES = Path(__file__).parents[2] / "services" / "pretrain" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_recipe_loads_under_its_own_name(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize("twin", ["moco", "supervised"])
def test_the_robust_recipe_is_its_twin_plus_the_term(twin: str) -> None:
    robust, plain = (load_recipe(RECIPES / f"{name}.toml") for name in (f"{twin}-sn", twin))
    same = {"feature_dim": plain.encoder.feature_dim}  # more of them cost no robustness
    assert robust.encoder.model_copy(update=same) == plain.encoder
    assert robust.objective == plain.objective
    assert robust.spectral.weight > 0 == plain.spectral.weight


def test_rocl_differs_from_its_l2_variant_in_the_attack_alone() -> None:
    published, fair = (load_recipe(RECIPES / f"{name}.toml") for name in ("rocl", "rocl-l2"))
    assert (published.attack.norm, published.attack.steps) == ("linf", 7)
    same = {"name": "", "description": "", "attack": published.attack}
    assert published.model_copy(update=same) == fair.model_copy(update=same)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\ntemprature = 1\n', "unknown key temprature"),
        ('name = "a"\n[spectral]\nlambda = 1\n', "unknown key spectral.lambda"),
        ('name = "a"\n[contrast]\ntemperature = -1.0\n', "contrast.temperature.*got -1.0"),
        ('name = "a"\n[contrast]\ntemperature = "hot"\n', "contrast.temperature.*got 'hot'"),
        ('name = "a"\n[contrast]\nqueue = 1000\n', "multiple of schedule.batch, got 1000 and 256"),
        ('name = "a"\n[spectral]\nvariant = "max"\n', "spectral.variant.*'max'"),
        ('name = "a"\n[augmentation]\ncrop_scale = [0.9, 0.2]\n', "0 < low <= high, got 0.9"),
        ('name = "a"\n[spectral]\nweight = 1.0\n[contrast]\nprojection = 64\n', "projection = 0"),
        ("[schedule]\nepochs = 3\n", "name"),
        ("name = ", "Invalid value"),
    ],
)
def test_wrong_recipe_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert "wrong.toml" in str(caught.value)


def test_missing_recipe_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml"):
        load_recipe(tmp_path / "nowhere.toml")


def test_a_recipe_does_not_change() -> None:
    recipe = parse_recipe({"name": "a"})
    with pytest.raises(ValueError, match="frozen"):
        recipe.schedule.epochs = 1


@pytest.mark.parametrize("name", ["moco-sn", "moco-1lip"])
def test_every_usual_change_is_a_recipe(name: str) -> None:
    base = load_recipe(RECIPES / f"{name}.toml")
    changed = [change.applied(base) for change in usual_changes(base)]
    assert base in changed
    assert len({recipe.model_dump_json() for recipe in changed}) == len(changed)
