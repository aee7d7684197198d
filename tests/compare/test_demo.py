"""`python -m evaluation.demo` as a user runs it: results, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def demo(models_dir: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    options = {"models": models_dir, "out": out, "encoder": "tiny", "twin": "twin"}
    command = [sys.executable, "-m", "evaluation.demo"]
    command += [f"--{name}={value}" for name, value in options.items()]
    command += arguments
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"COLUMNS": "80"},
    )


def children(process: subprocess.Popen[str]) -> list[int]:
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(pid) for pid in listing.read_text().split()]


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_the_demo_prints_the_table_and_writes_report_and_pictures(
    models_dir: Path, tmp_path: Path
) -> None:
    process = demo(models_dir, tmp_path / "out", "--train=60", "--test=8", "--samples=20")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "Break-even budget" in output
    assert 'reaas_queries_total{api="f2iperturb",client="reaas-sc"' in output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"report.json", "certified_accuracy.png", "acr_vs_queries.png", "cost.png"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["dataset"], report["test_inputs"], report["train_inputs"]) == ("digits", 8, 60)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for children in /proc")
@pytest.mark.parametrize(
    ("sent", "status"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_an_interrupted_demo_stops_its_services(
    models_dir: Path, tmp_path: Path, sent: signal.Signals, status: int
) -> None:
    process = demo(models_dir, tmp_path / "out")
    while len(services := children(process)) < 2 and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(sent)
    output, _ = process.communicate()
    assert process.returncode == status, output
    assert len(services) == 2
    assert not any(running(pid) for pid in services)


def test_missing_data_are_one_readable_line(models_dir: Path, tmp_path: Path) -> None:
    process = demo(models_dir, tmp_path / "out", "--dataset=cifar10", f"--data={tmp_path}")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "holds none of" in output
    assert "Traceback" not in output


def test_a_model_that_is_not_there_is_named(models_dir: Path, tmp_path: Path) -> None:
    process = demo(models_dir, tmp_path / "out", "--train=60", "--test=8", "--twin=absent")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "the service has no model absent" in output
    assert "last lines of encoder.log" in output
    assert "Traceback" not in output
