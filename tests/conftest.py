"""Fixtures that several areas share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.models import conv_encoder, publish


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """A model repository with one tiny encoder, "tiny" version "1"."""
    root = tmp_path / "models"
    publish(root, conv_encoder())
    return root
