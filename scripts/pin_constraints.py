"""Pin what is installed now in `constraints.txt`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
HEADER = (
    "# Every package that `make demo` and `make test` install, pinned. "
    "`make constraints` writes this file.\n"
)


def main() -> None:
    """Freeze without this project and without local build tags such as `+cpu`."""
    command = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pins = [re.sub(r"\+\w+$", "", line) for line in frozen.splitlines() if "==" in line]
    TARGET.write_text(HEADER + "\n".join(pins) + "\n")
    print(f"{len(pins)} packages pinned in {TARGET.name}")


if __name__ == "__main__":
    main()
