"""The loop: reproducible, resumable bit for bit, and loud when it diverges."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from reaas_pretrain.checkpoint import CHECKPOINT, Checkpoint, CheckpointError
from reaas_pretrain.log import LOG
from reaas_pretrain.monitor import Monitor
from reaas_pretrain.optimiser import learning_rate
from reaas_pretrain.recipe import Recipe
from reaas_pretrain.sections import OptimiserConfig
from reaas_pretrain.train import DivergedError, Trainer

from tests.pretrain.recipes import judge, random_images, tiny_recipe


def _trainer(
    directory: Path, recipe: Recipe | None = None, max_seconds: float = math.inf
) -> Trainer:
    images = random_images().images
    return Trainer(recipe or tiny_recipe(), images, directory, max_seconds=max_seconds)


def _state(trainer: Trainer) -> list[torch.Tensor]:
    learner = trainer.learner
    momenta = [s["momentum_buffer"] for s in learner.optimiser.state_dict()["state"].values()]
    return [*learner.objective.state_dict().values(), *learner.spectral.buffers(), *momenta]


def test_resumed_run_equals_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = _trainer(tmp_path / "whole")
    whole.run()
    _trainer(tmp_path / "cut").run(until_epoch=1)
    rest = _trainer(tmp_path / "cut")
    rest.resume()
    assert rest.epoch == 1
    rest.run()
    assert rest.step == whole.step == 15
    for resumed, expected in zip(_state(rest), _state(whole), strict=True):
        assert torch.equal(resumed, expected)


def test_seed_decides_the_run(tmp_path: Path) -> None:
    runs = [
        _trainer(tmp_path / str(i), tiny_recipe(schedule={"seed": s}))
        for i, s in enumerate((1, 1, 2))
    ]
    for run in runs:
        run.run(until_epoch=1)
    same, again, other = (run.encoder.linear.weight for run in runs)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_training_lowers_the_norm_product_in_units_of_spread(tmp_path: Path) -> None:
    recipe = tiny_recipe(spectral={"weight": 3.0}, schedule={"epochs": 12})
    robust = _trainer(tmp_path / "robust", recipe)
    plain = _trainer(
        tmp_path / "plain", tiny_recipe(spectral={"weight": 0.0}, schedule={"epochs": 12})
    )
    ratios = []
    for trainer in (robust, plain):
        trainer.run()
        last = trainer.history[-1]
        ratios.append(last["sigma_product"] / last["spread"])
    assert ratios[0] < 0.8 * ratios[1]


def test_log_has_a_row_an_epoch_and_the_monitored_accuracy(tmp_path: Path) -> None:
    data = random_images()
    trainer = Trainer(tiny_recipe(), data.images, tmp_path, monitor=Monitor(judge(data)))
    trainer.run()
    with (tmp_path / LOG).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["knn_top1"]) for row in rows] == [False, True, True]
    assert 0 <= float(rows[0]["augmentation_share"]) <= 1


def test_not_a_number_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    trainer.run(until_epoch=1)
    good = (tmp_path / CHECKPOINT).read_bytes()
    with torch.no_grad():
        trainer.encoder.linear.weight[0, 0] = torch.nan
    with pytest.raises(DivergedError, match=r"diverged at step 5 \(epoch 2\).*checkpoint\.pt"):
        trainer.run()
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    assert Checkpoint.load(tmp_path).epoch == 1
    assert bool(torch.isfinite(trainer.encoder.linear.weight).all())  # back at the good state
    assert (trainer.epoch, trainer.step) == (1, 5)


def test_resume_refuses_another_recipe(tmp_path: Path) -> None:
    _trainer(tmp_path).run(until_epoch=1)
    with pytest.raises(CheckpointError, match="another recipe: spectral"):
        _trainer(tmp_path, tiny_recipe(spectral={"weight": 0.1})).resume()


def test_resume_without_a_checkpoint_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        _trainer(tmp_path).resume()


def test_time_budget_completes_the_schedule(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, max_seconds=1e-6)
    trainer.run()
    assert trainer.step == 1
    assert trainer.progress == 1
    assert Checkpoint.load(tmp_path).step == 1


def test_too_few_images_for_a_batch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 images are less than a batch of 8"):
        Trainer(tiny_recipe(), random_images(3).images, tmp_path)


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    config = OptimiserConfig(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(p, config) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert 0 < rates[0] < rates[1] < rates[2]
    assert rates[2:] == pytest.approx([1.0, 0.5, 0.0])


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, tiny_recipe(schedule={"bfloat16": True}))
    trainer.run(until_epoch=1)
    assert trainer.encoder.linear.weight.dtype == torch.float32
