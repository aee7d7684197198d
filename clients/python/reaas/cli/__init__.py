"""The command `reaas`. Needs the extra `cli`: pip install 'reaas[cli]'.

Exit codes: 0 done; 1 a fault of this program; 2 wrong usage or input; 3 API key missing or unknown;
4 model unknown, unusable, or not the one asked for; 5 service unreachable, overloaded or too slow;
6 service at fault, or its reply breaks the contract; 130 interrupted.
"""

from __future__ import annotations

import sys

_NEEDED = {"click": "click", "rich": "rich", "PIL": "pillow"}


def main() -> None:
    """Runs the command line, or says what to install."""
    try:
        from reaas.cli._app import app
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        missing = _NEEDED[error.name]
        sys.exit(f"reaas: {missing} is not installed; run: pip install 'reaas[cli]'")
    app(prog_name="reaas")
