"""`reaas-keys add CLIENT_ID --file keys.txt`: make an API key.

The key is printed once; the file keeps its SHA-256 only. Running services read the file again
within `keys_poll_s` seconds. To revoke a key, delete its line.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import os
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.identity import key_hash
from reaas_runtime.key_file import (
    ROLES,
    check_client_id,
    check_roles,
    parse_key_file,
    read_bytes,
)
from reaas_runtime.quota import parse_limits

PREFIX = "reaas_"  # lets secret scanners recognise a leaked key


def add_key(client: str, file: Path, roles: Sequence[str] = (), limits: Sequence[str] = ()) -> str:
    """Append `client` with the hash of a new key to `file`; returns the key.

    The file is replaced in one step, with its mode, owner and comments; a second `add` waits for
    the first. Where it cannot be replaced (a single file mounted into a container) the line is
    appended to it.

    Raises ConfigurationError where the id is not usable or there already, or the file is at fault.
    """
    check_client_id(client, "add")
    check_roles(roles, "add")
    parse_limits(limits, "add")
    file = Path(os.path.realpath(file))  # of a link, what it points to is replaced
    try:
        with _alone(file.parent):
            old = read_bytes(file) if os.path.lexists(file) else b""
            known = parse_key_file(old, file)
            if known.faults:
                raise ConfigurationError(known.faults[0])
            if client in known.entries:
                raise ConfigurationError(
                    f"client {client!r} is in {file} already: delete its line first"
                )
            key = PREFIX + secrets.token_urlsafe(32)
            line = " ".join([f"{client}: {key_hash(key).hex()}", *roles, *limits]) + "\n"
            end = b"\n" if old and not old.endswith((b"\n", b"\r")) else b""
            _write(file, old, end + line.encode("ascii"))
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written: {error.strerror}") from error
    return key


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the lock of `directory`: the file itself is replaced, so it cannot carry one."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(file: Path, old: bytes, more: bytes) -> None:
    """Replace `file` by `old` and `more`: after a crash it is the old file or the new one."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as written:
            _take_after(file, descriptor)
            written.write(old + more)
            written.flush()
            os.fsync(descriptor)
        os.replace(temporary, file)
    except OSError as error:
        os.unlink(temporary)
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        _append(file, more)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _take_after(file: Path, descriptor: int) -> None:
    """Mode and owner of `file` for a new one; of a file that is not there yet, 0600 as made."""
    if not file.exists():
        return
    status = file.stat()
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _append(file: Path, more: bytes) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    with os.fdopen(descriptor, "wb") as written:
        written.write(more)
        written.flush()
        os.fsync(descriptor)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="reaas-keys", description="Make API keys for REaaS services."
    )
    commands = parser.add_subparsers(required=True)
    add = commands.add_parser("add", help="make a key for a client and print it once")
    add.add_argument("client", help="id under which the client is metered")
    add.add_argument("--file", type=Path, default=Path("keys.txt"), help="key file (keys.txt)")
    add.add_argument(
        "--role",
        action="append",
        default=[],
        choices=sorted(ROLES),
        help="what the key allows beyond queries",
    )
    add.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="N/WINDOW",
        help="queries that the client may ask at each replica: 100/second, 1000000/day",
    )
    parsed = parser.parse_args(arguments)
    try:
        print(add_key(parsed.client, parsed.file, parsed.role, parsed.limit))
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
