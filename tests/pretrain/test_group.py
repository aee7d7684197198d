"""Two processes compute what one computes: losses, gradients, queue, weights."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reaas_pretrain.chance import Chance
from reaas_pretrain.group import Group
from reaas_pretrain.train import Trainer

from tests.pretrain.group_worker import RECIPES
from tests.pretrain.recipes import random_images, tiny_recipe


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _computed(out: Path, size: int) -> Any:
    """Starts `size` processes in torchrun's environment; what the first one saved."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    command = [
        sys.executable,
        "-W",
        "error::FutureWarning",
        "-m",
        "tests.pretrain.group_worker",
        str(out),
    ]
    running = [
        subprocess.Popen(
            command,
            env=os.environ | rendezvous | {"WORLD_SIZE": str(size), "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    ends = [process.communicate(timeout=300)[1] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(ends)
    return torch.load(out, weights_only=True)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What one process computed, and what two did."""
    directory = tmp_path_factory.mktemp("group")
    return _computed(directory / "one.pt", 1), _computed(directory / "two.pt", 2)


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_compute_what_one_does(computed: tuple[Any, Any], name: str) -> None:
    one, two = (results[name] for results in computed)
    assert two["first"] == pytest.approx(one["first"], rel=1e-4, abs=1e-5)
    for mine, theirs in zip(two["gradients"], one["gradients"], strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-5)
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3)
    for key, value in one["state"].items():
        assert torch.allclose(two["state"][key], value, rtol=1e-2, atol=1e-3), key


def test_everyone_draws_the_same_numbers_and_takes_own_rows() -> None:
    def drawn(group: Group) -> torch.Tensor:
        chance = Chance(torch.Generator().manual_seed(3), group)
        return torch.stack([chance.uniform(6 // group.size), chance.normal(6 // group.size)])

    halves = [drawn(Group(rank, 2)) for rank in range(2)]
    assert torch.equal(torch.cat(halves, dim=1), drawn(Group()))


def test_a_batch_is_shared_evenly(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be a multiple of 3 processes, got 8"):
        Trainer(tiny_recipe(), random_images().images, tmp_path, group=Group(0, 3))
