"""`python -m reaas_runtime.keys add CLIENT_ID --file keys.txt`: make an API key.

The key is printed once; the file keeps its SHA-256 only. Running services read the file again
within `model_poll_s` seconds. To revoke a key, delete its line.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.identity import (
    ROLES,
    check_client_id,
    check_roles,
    key_hash,
    read_key_file,
)
from reaas_runtime.quota import parse_limits

PREFIX = "reaas_"  # lets secret scanners recognise a leaked key


def add_key(client: str, file: Path, roles: Sequence[str] = (), limits: Sequence[str] = ()) -> str:
    """Append `client` with the hash of a new key to `file`; returns the key.

    Raises ConfigurationError where the id is not usable or there already.
    """
    check_client_id(client, "add")
    check_roles(roles, "add")
    parse_limits(limits, "add")
    if file.exists() and client in read_key_file(file):
        raise ConfigurationError(f"client {client!r} is in {file} already: delete its line first")
    key = PREFIX + secrets.token_urlsafe(32)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a") as lines:
        lines.write(" ".join([f"{client}: {key_hash(key).hex()}", *roles, *limits]) + "\n")
    return key


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m reaas_runtime.keys", description="Make API keys for REaaS services."
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
