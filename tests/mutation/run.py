"""Plants a mistake in a copy of the engine, and runs the tests that are to catch it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.mutation.mistakes import Mistake

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "core/reaas_bounds"


def planted(mistake: Mistake, directory: Path) -> Path:
    """A directory to import `reaas_bounds` from, with the mistake in it."""
    copy = directory / "reaas_bounds"
    shutil.copytree(ENGINE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / mistake.file
    text = file.read_text()
    assert text.count(mistake.old) == 1, f"{mistake.file} no longer has {mistake.old!r} once"
    file.write_text(text.replace(mistake.old, mistake.new))
    return directory


def caught_by(mistake: Mistake, directory: Path) -> str:
    """The first test that fails with the mistake; empty where it survives."""
    path = os.pathsep.join([str(planted(mistake, directory)), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-m",
        "not slow",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, *mistake.tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" ", 1)[1].split(" - ")[0] if failed else ""
