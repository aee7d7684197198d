"""How a command of the evaluation is stopped: by exceptions, so that services end with it."""

from __future__ import annotations

import signal
import sys


def stop_on_signals() -> None:
    """SIGINT raises KeyboardInterrupt, SIGTERM ends the process with status 143.

    A shell that starts a command in the background has SIGINT ignored; it still means stop.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
