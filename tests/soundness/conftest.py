"""Prints what the soundness suite attacked."""

from __future__ import annotations

import pytest

from tests.soundness.tally import Audit

AUDIT = "audit"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The sum over all tests that recorded an audit, of all workers, passed or failed."""
    total = Audit()
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == AUDIT:
                    total.add(Audit.of(value))
    if total.encoders:
        for line in total.lines():
            terminalreporter.write_line(line)
