"""What the engine reads is what ONNX Runtime computes, or it is refused: a grid of small files.

The grid runs in a process of its own, as ONNX Runtime ends the process over some files.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def held(last: Path, *arguments: str) -> str:
    """What the grid prints; a failure if any file failed or ended the process."""
    command = [sys.executable, "-W", "error", "-m", "tests.differential", "--last", str(last)]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    text = f"{done.stdout}\n{done.stderr[-2000:]}"
    assert done.returncode in (0, 1), f"the process ended at {last.read_text()}\n{text}"
    assert done.returncode == 0, text
    return done.stdout


def test_a_sample_of_the_grid(tmp_path: Path) -> None:
    print(held(tmp_path / "last", "--every", "43"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_whole_grid_meets_every_version_of_every_operator_that_is_read(tmp_path: Path) -> None:
    print(held(tmp_path / "last", "--versions"))


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_questions_about_what_is_read_have_answers(tmp_path: Path) -> None:
    print(held(tmp_path / "last", "--asked", "--every", "5"))
