"""Orthogonal encoders: 1-Lipschitz whatever they learn, and exported as plain convolutions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from reaas_bounds import certified_constants
from reaas_pretrain.checkpoint import Checkpoint
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.evaluate import encode
from reaas_pretrain.onnx_graph import encoder_onnx, run_onnx
from reaas_pretrain.orthogonal import maxmin, principal_start
from reaas_pretrain.publishing import standardise, trained_encoder
from reaas_pretrain.recipe import Recipe, RecipeError
from reaas_pretrain.spectral import SpectralTerm, spread
from reaas_pretrain.train import Trainer

from tests.pretrain.recipes import random_images, tiny_recipe


def _recipe(**encoder: object) -> Recipe:
    return tiny_recipe(
        encoder={"family": "orthogonal", "channels": [4, 8], "std": [1.0, 1.0, 1.0], **encoder},
        contrast={"mechanism": "end-to-end", "similarity": "distance", "temperature": 1.0},
        spectral={"weight": 0.0},
        optimiser={"method": "adam", "learning_rate": 0.05, "weight_decay": 0.0},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, at a rate that moves every weight far."""
    directory = tmp_path_factory.mktemp("orthogonal")
    Trainer(_recipe(), random_images().images, directory).run()
    return directory


def test_layers_have_norm_one_before_and_after_training(run: Path) -> None:
    recipe, trained = trained_encoder(Checkpoint.load(run))
    for encoder in (ConvEncoder(recipe.encoder), trained):
        norms = SpectralTerm(encoder, "product").norms(encoder, iterations=200)
        assert float(norms.detach().max()) <= 1 + 1e-5
        assert float(norms.detach().min()) >= 0.9


def test_no_pair_of_images_is_moved_apart(run: Path) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    images = torch.rand(50, 3, 9, 9)
    for other in (torch.rand(50, 3, 9, 9), images + 1e-3 * torch.randn_like(images)):
        moved = (encoder(images) - encoder(other)).norm(dim=1)
        assert (moved <= (images - other).flatten(1).norm(dim=1) * (1 + 1e-3)).all()


def test_maxmin_orders_pairs_and_keeps_the_norm() -> None:
    hidden = torch.randn(3, 6, 2, 2)
    ordered = maxmin(hidden)
    assert (ordered[:, :3] >= ordered[:, 3:]).all()
    assert torch.equal(ordered.flatten().sort()[0], hidden.flatten().sort()[0])
    assert torch.equal(maxmin(ordered), ordered)


def test_the_start_keeps_more_of_the_images_than_a_random_one() -> None:
    torch.manual_seed(0)
    data = random_images(200).images
    random = ConvEncoder(_recipe(feature_dim=3).encoder)
    principal = ConvEncoder(_recipe(feature_dim=3).encoder)
    principal_start(principal, data.float() / 255)
    before, after = spread(encode(random, data)), spread(encode(principal, data))
    assert after > 1.5 * before
    assert float(encode(principal, data).mean(0).norm()) < 1e-3 * float(after)


def test_a_large_offset_starts_linear() -> None:
    torch.manual_seed(0)
    encoder = ConvEncoder(_recipe(offset=50.0).encoder)
    data = random_images(60).images.float() / 255
    principal_start(encoder, data)
    middle = encoder((data[:20] + data[20:40]) / 2)
    assert torch.allclose(middle, (encoder(data[:20]) + encoder(data[20:40])) / 2, atol=1e-4)


def test_exported_graph_is_plain_layers_and_equals_torch(run: Path) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    exported = encoder_onnx(encoder)
    operators = [node.op_type for node in onnx.load_from_string(exported).graph.node]
    maxmin_nodes = ["Split", "Max", "Min", "Concat"]
    assert operators == ["Sub", "Div", *2 * ["Conv", *maxmin_nodes], "Flatten", "Gemm"]
    images = torch.rand(7, 3, 9, 9)
    assert np.allclose(run_onnx(exported, images), encoder(images), atol=1e-5)


def test_publishing_centres_features_and_leaves_their_scale(run: Path) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    images = random_images().images
    before = encode(encoder, images)
    assert standardise(encoder, images) == 1
    assert torch.allclose(encode(encoder, images), before - before.mean(0), atol=1e-5)


def test_certified_constant_of_the_exported_graph_is_one(run: Path) -> None:
    _, encoder = trained_encoder(Checkpoint.load(run))
    constants = certified_constants(encoder_onnx(encoder))
    assert 0.9 <= constants.lipschitz <= 1.01


def test_resumed_run_equals_uninterrupted_one_bit_for_bit(run: Path, tmp_path: Path) -> None:
    images = random_images().images
    Trainer(_recipe(), images, tmp_path).run(until_epoch=1)
    rest = Trainer(_recipe(), images, tmp_path)
    rest.resume()
    rest.run()
    whole = Checkpoint.load(run).model
    assert all(
        torch.equal(value, whole[key]) for key, value in rest.learner.objective.state_dict().items()
    )


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"kernel": 2}, "needs kernel > stride >= 2, got 2 and 2"),
        ({"channels": [4, 6]}, r"multiples of stride \*\* 2 = 4, got 6"),
    ],
)
def test_shapes_without_an_orthogonal_kernel(encoder: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        _recipe(**encoder)


def test_without_the_package_the_recipe_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "orthogonium.layers", None)
    with pytest.raises(RecipeError, match=r"needs the package orthogonium \(pip install"):
        ConvEncoder(_recipe().encoder)
