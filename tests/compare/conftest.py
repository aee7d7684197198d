"""Both services as processes, with two tiny encoders and honest manifests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from reaas.compare import client_ids
from reaas.datasets import Dataset, load

from evaluation.services import Services, running_services
from tests.compare.tiny import CONFIG
from tests.support.f2i import certified
from tests.support.models import conv_encoder, manifest, publish

# Clients beside those of the rows, for tests that query by themselves.
EXTRA_CLIENTS = ("direct", "victim")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with `tiny` and `twin`, 8x8x3 -> 8."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("tiny", "twin")):
        onnx = conv_encoder(seed, scale=1.5)
        publish(root, onnx, manifest(onnx, name=name, certified=certified(onnx)))
    return root


@pytest.fixture(scope="session")
def services(models_dir: Path) -> Iterator[Services]:
    """Both services, serving."""
    with running_services(models_dir, [*client_ids(CONFIG), *EXTRA_CLIENTS]) as running:
        yield running


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """A few of scikit-learn's digits, 8x8x1."""
    return load("digits", train_size=60, test_size=12, seed=1)
