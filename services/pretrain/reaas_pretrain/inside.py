"""Files that may be read: those that lie below one directory, wherever symbolic links lead.

Names alone do not keep a reader below a directory: a link in it may lead anywhere, and a FIFO or a
device ends or holds whoever opens it. So what is about to be read is resolved and looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


class OutsideError(ValueError):
    """Something that would be read is outside, or is neither a file nor a directory."""


def resolved_inside(path: Path, root: Path) -> Path:
    """Where `path` really is: a regular file or a directory below `root`.

    Raises OutsideError naming `path`; a path that does not exist is one, too.
    """
    try:
        place = path.resolve(strict=True)
        mode = place.stat().st_mode
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle.
        raise OutsideError(f"{path.name} cannot be reached") from error
    if not place.is_relative_to(root.resolve()):
        raise OutsideError(f"{path.name} is a link that leads out of the directory of data sets")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OutsideError(f"{path.name} is neither a regular file nor a directory")
    return place


def check_tree(path: Path, root: Path) -> None:
    """Raises OutsideError unless `path`, and all that lies below it, is inside `root`.

    To be called just before it is read. Links are followed where they stay inside; one that leads
    nowhere is left to whoever needs it.
    """
    place, seen = resolved_inside(path, root), set[Path]()
    waiting = [place]
    while waiting:
        here = waiting.pop()
        if here in seen or not here.is_dir():
            continue
        seen.add(here)
        waiting += _directories(here, root)


def _directories(directory: Path, root: Path) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):  # The usual case, at no extra look.
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not path.exists():
                continue
            place = resolved_inside(path, root)
            if place.is_dir():
                yield place
