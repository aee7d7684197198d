"""Hold the contract against the last release with buf: no breaking change goes unnoticed.

The last release is the newest tag `v*`; before there is one, the first commit with a contract.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def git(*arguments: str) -> str:
    """Output of a git command in the repository; empty where it fails."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def baseline() -> str:
    """The commit to compare with."""
    tag = git("describe", "--tags", "--match", "v*", "--abbrev=0")
    first = git("log", "--reverse", "--format=%H", "--diff-filter=A", "--", "protos/reaas/v1")
    return tag or first.partition("\n")[0]


def main() -> int:
    """Run `buf breaking`; its findings go to standard output."""
    commit = baseline()
    if not commit:
        print("no history of the contract here: breaking changes were not checked")
        return 0
    buf = Path(sys.executable).parent / "buf"
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "baseline.tar"
        git("archive", "--output", str(archive), commit, "--", "protos", "buf.yaml")
        command = [str(buf), "breaking", str(ROOT), "--against", str(archive)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
