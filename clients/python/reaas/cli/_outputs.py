"""Output files: known to be writable before anything is paid, and never left half written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click


def check_writable(option: str, file: Path) -> None:
    """Makes the folder of `file`. Raises click.UsageError, naming `option`, if it can't be
    written; what is in it stays."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists():
            with file.open("ab"):
                pass
        if not _is_special(file):
            with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".reaas-"):
                pass
    except OSError as error:
        raise click.UsageError(f"{option} {file}: cannot be written: {error.strerror}") from error


def check_writable_folder(option: str, folder: Path) -> None:
    """As `check_writable`, for a folder of output files."""
    check_writable(option, folder / "file")


def write_file(file: Path, write: Callable[[Path], None]) -> None:
    """`write` fills a file of another name, which takes the place of `file` when it is whole."""
    if _is_special(file):
        write(file)
        return
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        part.chmod(file.stat().st_mode if file.exists() else 0o666 & ~_umask())
        part.replace(file.resolve())
    finally:
        part.unlink(missing_ok=True)


def _is_special(file: Path) -> bool:
    return file.exists() and not file.is_file()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
