"""Fixtures of the pre-training service's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.pretrain_service.house import make_house
from tests.support.pictures import write_images

Script = Callable[[str], None]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of small data."""
    directory = tmp_path_factory.mktemp("pictures")
    write_images(directory)
    return directory


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Directories of a service; its data set "pictures" is empty."""
    return make_house(tmp_path / "house")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Sets the shell script that a run is, instead of a training, for what no training decides.

    It begins in the run's directory.
    """

    def choose(text: str) -> None:
        def commands(*_: Any) -> Callable[[Any], Sequence[str]]:
            return lambda run: ["/bin/sh", "-c", text]

        monkeypatch.setattr("reaas_pretrain.service.servicer.train_command", commands)

    return choose
