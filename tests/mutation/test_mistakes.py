"""Every known mistake is caught by a fast test (`make test-mutation` prints which)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mistakes import MISTAKES, Mistake
from tests.mutation.run import caught_by, planted


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_can_be_planted(mistake: Mistake, tmp_path: Path) -> None:
    assert mistake.new in (planted(mistake, tmp_path) / "reaas_bounds" / mistake.file).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_caught(mistake: Mistake, tmp_path: Path) -> None:
    assert caught_by(mistake, tmp_path)
