"""Fixtures that several areas share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import structlog

from tests.support.models import conv_encoder, publish

# Machines that run tests are busy with other things too: how long an example takes says nothing.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """A model repository with one tiny encoder, "tiny" version "1"."""
    root = tmp_path / "models"
    publish(root, conv_encoder())
    return root


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    """A service's `main` sets logs up for its whole process; the next test is another one."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
