"""The images' locks: what they say agrees with the pins, and nothing lacks a hash."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scripts import lock_images

NAMES = (*lock_images.EXTRAS, lock_images.BUILD)


@pytest.mark.parametrize("name", NAMES)
def test_locks_are_current(name: str) -> None:
    assert lock_images.check(name) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((r"numpy==\S+", "numpy==1.0.0"), "numpy==1.0.0, but constraints.txt has"),
        ((r"numpy==\S+ \\\n.*\n", ""), "numpy is not locked"),
        ((r"(numpy==\S+) \\\n.*\n", r"\1\n"), "no hash for numpy"),
    ],
)
def test_a_lock_that_is_not_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], said: str
) -> None:
    shutil.copytree(lock_images.LOCKS, tmp_path / "locks")
    monkeypatch.setattr(lock_images, "LOCKS", tmp_path / "locks")
    file = tmp_path / "locks" / "f2i.txt"
    file.write_text(re.sub(change[0], change[1], file.read_text()))
    assert any(said in problem for problem in lock_images.check("f2i"))
    file.unlink()
    assert "is missing" in lock_images.check("f2i")[0]


def test_the_images_install_nothing_without_a_hash() -> None:
    text = (lock_images.ROOT / "deploy/docker/Dockerfile").read_text().replace("\\\n", " ")
    installs = re.findall(r"pip install ([^&\n]*)", text)
    assert len(installs) == 7
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps --no-index /wheels" in arguments


def test_extras_of_extras_are_asked_for() -> None:
    wanted = lock_images._wanted("f2i")
    assert not [requirement for requirement in wanted if requirement.startswith("reaas")]
    assert {"grpcio", "torch", "onnx"} <= {re.split(r"[><=]", each)[0] for each in wanted}
