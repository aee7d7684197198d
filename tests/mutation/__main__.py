"""`make test-mutation`: every known mistake, and the test that catches it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutation.mistakes import MISTAKES
from tests.mutation.run import caught_by


def main() -> int:
    """0: all mistakes are caught."""
    console = Console()
    table = Table("mistake", "in", "caught by", title="Mistakes planted in the engine")
    survived = 0
    for number, mistake in enumerate(MISTAKES, start=1):
        console.print(f"{number} of {len(MISTAKES)}: {mistake.name}")
        with tempfile.TemporaryDirectory() as directory:
            test = caught_by(mistake, Path(directory))
        survived += not test
        table.add_row(mistake.name, mistake.file, test or "[bold red]SURVIVED")
    console.print(table)
    console.print(f"{len(MISTAKES) - survived} of {len(MISTAKES)} mistakes are caught")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
