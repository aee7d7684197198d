"""Checkpoints that are damaged or can't be written: one clear error, the last good one kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from reaas_pretrain.checkpoint import CHECKPOINT, Checkpoint, CheckpointError
from reaas_pretrain.train import Trainer

from tests.pretrain.recipes import random_images, tiny_recipe


def _trainer(directory: Path) -> Trainer:
    return Trainer(tiny_recipe(), random_images().images, directory)


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    _trainer(tmp_path).run(until_epoch=1)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "noise": b"x" * 500, "empty": b""}[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt can't be read.*damaged"):
        _trainer(tmp_path).resume()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path)
    trainer.run(until_epoch=1)
    good = (tmp_path / CHECKPOINT).read_bytes()
    temporary = (tmp_path / CHECKPOINT).with_suffix(".tmp")
    temporary.symlink_to("/dev/full")  # every write to it fails as on a full disk
    with pytest.raises(CheckpointError, match=r"epoch 2 can't be written.*one before it is kept"):
        trainer.run()
    assert (tmp_path / CHECKPOINT).read_bytes() == good
    assert not temporary.exists()
    assert Checkpoint.load(tmp_path).epoch == 1
    resumed = _trainer(tmp_path)
    resumed.resume()
    resumed.run()
    assert resumed.epoch == 3
