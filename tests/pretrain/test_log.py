"""What a run tells: columns of the log, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from reaas_pretrain.log import LOG, TensorBoard, TensorBoardUnavailableError, write_log
from reaas_pretrain.monitor import Monitor
from reaas_pretrain.train import Trainer

from tests.pretrain.recipes import judge, random_images, tiny_recipe


def test_columns_are_the_union_in_order_of_appearance(tmp_path: Path) -> None:
    write_log(tmp_path, [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "knn_top1": 0.5}])
    rows = list(csv.DictReader((tmp_path / LOG).read_text().splitlines()))
    assert rows[1] == {"epoch": "2", "loss": "1.0", "knn_top1": "0.5"}
    assert rows[0]["knn_top1"] == ""


def test_monitored_epochs_have_accuracies_and_the_certified_constant(tmp_path: Path) -> None:
    data = random_images()
    trainer = Trainer(tiny_recipe(), data.images, tmp_path, monitor=Monitor(judge(data)))
    trainer.run(until_epoch=2)
    first, second = trainer.history
    assert "certified_lipschitz" not in first
    # Power iteration approaches the product from below, the certificate bounds the function.
    assert 0 < second["certified_lipschitz"] <= second["sigma_product"] * 1.05
    assert second["linear_top1"] > 0.8


def test_tensorboard_gets_every_column_at_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scalars: list[tuple[str, float, int]] = []
    writer = SimpleNamespace(
        add_scalar=lambda key, value, step: scalars.append((key, value, step)), flush=lambda: None
    )
    fake = SimpleNamespace(SummaryWriter=lambda directory: writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    board = TensorBoard(tmp_path)
    board.stepped(1, 0.5, 2.0)
    board.finished_epoch({"epoch": 1, "step": 7, "loss": 2.0})
    assert scalars == [("epoch", 1, 7), ("step", 7, 7), ("loss", 2.0, 7)]


def test_tensorboard_that_is_not_installed_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TensorBoardUnavailableError, match=r"pip install tensorboard.*log\.csv"):
        TensorBoard(tmp_path)
