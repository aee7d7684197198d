"""Real services with a tiny encoder, and a client with a quota."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.observe.fleet import Fleet, running_fleet
from evaluation.observe.replay import LIMITS
from tests.support.f2i import certified
from tests.support.models import conv_encoder, manifest, publish


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with `tiny`, 8x8x3 -> 8."""
    root = tmp_path_factory.mktemp("models")
    onnx = conv_encoder(0, scale=1.5)
    publish(root, onnx, manifest(onnx, name="tiny", certified=certified(onnx)))
    return root


@pytest.fixture(scope="session")
def fleet(models_dir: Path) -> Iterator[Fleet]:
    """Two encoder replicas and F2I, with the clients of `make observe`."""
    with running_fleet(models_dir, LIMITS) as running:
        yield running


@pytest.fixture(scope="session")
def prometheus_programs() -> None:
    """Skips where Prometheus cannot be run."""
    for program in ("prometheus", "promtool", "prometheus-pushgateway"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed; scripts/install_prometheus.sh installs it")
