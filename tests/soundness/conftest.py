"""Prints how many pairs the soundness suite attacked."""

from __future__ import annotations

import pytest

ATTACKED = "attacked_pairs"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The sum over all tests that recorded a number of pairs, of all workers."""
    reports = terminalreporter.stats.get("passed", [])
    counts = [
        value
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == ATTACKED
    ]
    if counts:
        terminalreporter.write_line(f"soundness suite: {sum(counts):,} pairs attacked, none beaten")
