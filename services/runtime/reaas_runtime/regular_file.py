"""Files that are read while a service runs: never waited for, never longer than they may be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_CHUNK = 1 << 22


class TooLongError(OSError):
    """The file has more bytes than it may."""


def read_regular(file: Path, most: int) -> bytes:
    """The bytes of a regular file, at most `most`.

    A pipe would wait for its other end, a device may never end: both are refused.

    Raises OSError (TooLongError) with what to tell the operator in `strerror`.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(file))
        parts, size = [], 0
        while status.st_size <= most and (part := os.read(descriptor, _CHUNK)):
            parts.append(part)
            size += len(part)
            if size > most:
                break
        if max(size, status.st_size) > most:
            raise TooLongError(errno.EFBIG, f"longer than {most} bytes", str(file))
        return b"".join(parts)
    finally:
        os.close(descriptor)
