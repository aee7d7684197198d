"""Replicas that die while they are asked lose no query."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.progress import Progress

from evaluation.outage import ask_through_outages


@pytest.mark.slow
def test_retries_hide_a_killed_and_a_drained_replica() -> None:
    outcome = ask_through_outages(Path("models"), "moco-sn", 1500, Progress(disable=True))
    assert outcome.answered == 1500, outcome.lost
    assert outcome.wrong == 0
