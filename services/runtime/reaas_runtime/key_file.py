"""The key file: lines 'client_id: sha256hex [role ...] [limit ...]', read whatever is in it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.quota import Allowance, parse_limits
from reaas_runtime.regular_file import read_regular

ANONYMOUS = "anonymous"
OTHER = "other"
OPERATOR = "operator"
ROLES = frozenset({OPERATOR})
"""What a key may allow beyond queries. `operator`: run and publish pre-trainings."""
CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Every key is compared with every entry: 10,000 clients are a few milliseconds.
LONGEST_FILE = 1 << 20
# An id, a hash, roles and a few limits take 200.
_LONGEST_LINE = 1000
_HASH = re.compile(r"[0-9a-f]{64}")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class KeyEntry:
    """One line of the key file."""

    hash: bytes
    """SHA-256 of the key."""
    roles: frozenset[str] = frozenset()
    limits: Allowance | None = None
    """Queries that the client may ask; None: the service's default."""


@dataclass(frozen=True)
class KeyFile:
    """What a key file says: its entries in order, and what is wrong, by line."""

    entries: dict[str, KeyEntry]
    faults: tuple[str, ...]
    """'FILE:LINE: why', never what stands behind a client id."""
    faulty_hashes: frozenset[bytes]
    """Hashes that stand on faulty lines: their keys are not gone from the file."""


def read_bytes(file: Path) -> bytes:
    """The bytes of a key file. Never waits for a pipe or a device.

    Raises ConfigurationError: not there, not readable, not a regular file, too long.
    """
    try:
        return read_regular(file, LONGEST_FILE)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(f"api_keys_file {file} cannot be read: {why}") from error


def parse_key_file(raw: bytes, file: Path) -> KeyFile:
    """Every usable line; faulty ones are skipped and named. '#' starts a comment of any bytes.

    What has a '/' is a limit: '100/second', '1000000/day'. Of two lines for one client, or with one
    key, the first counts.
    """
    entries: dict[str, KeyEntry] = {}
    faults: list[str] = []
    hashes: set[bytes] = set()
    owners: dict[bytes, str] = {}
    text = raw.removeprefix(_BYTE_ORDER_MARK).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for number, line in enumerate(text.split(b"\n"), start=1):
        try:
            found = _entry(line, f"{file}:{number}")
            if found is not None:
                client, entry = found
                _check_new(client, client in entries, owners.get(entry.hash), f"{file}:{number}")
                entries[client], owners[entry.hash] = entry, client
        except ConfigurationError as error:
            faults.append(str(error))
            words = re.findall(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", line[:_LONGEST_LINE])
            hashes.update(bytes.fromhex(word.decode()) for word in words)
    return KeyFile(entries, tuple(faults), frozenset(hashes))


def read_key_file(file: Path) -> dict[str, KeyEntry]:
    """The entries of a file without fault. Raises ConfigurationError naming the first one."""
    found = parse_key_file(read_bytes(file), file)
    if found.faults:
        raise ConfigurationError(found.faults[0])
    return found.entries


def check_client_id(client: str, where: str) -> None:
    """Raise ConfigurationError unless `client` can be an id; ids become metric labels."""
    if not CLIENT_ID.fullmatch(client):
        shown = client if len(client) <= 70 else client[:67] + "..."
        raise ConfigurationError(
            f"{where}: client id {shown!r} is not 1 to 63 letters, digits, '.', '_' or '-'"
        )
    if client in (ANONYMOUS, OTHER):
        raise ConfigurationError(f"{where}: client id {client!r} is reserved")


def check_roles(roles: Iterable[str], where: str) -> None:
    """Raise ConfigurationError for a role that no service knows."""
    for role in roles:
        if role not in ROLES:
            known = ", ".join(sorted(ROLES))
            shown = role if len(role) <= 32 else "of more than 32 characters"
            raise ConfigurationError(f"{where}: role {shown!r} is not known; there are: {known}")


def _entry(line: bytes, where: str) -> tuple[str, KeyEntry] | None:
    """What a line says; None: nothing. Raises ConfigurationError."""
    content = line.split(b"#", 1)[0].strip()
    if not content:
        return None
    if len(content) > _LONGEST_LINE:
        raise ConfigurationError(f"{where}: the line has more than {_LONGEST_LINE} bytes")
    try:
        text = content.decode("ascii")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{where}: byte {error.start + 1} of the line is not ASCII: ids, hashes, roles and "
            "limits are; anything may stand behind '#'"
        ) from error
    if not text.isprintable():
        raise ConfigurationError(f"{where}: the line has control characters")
    client, _, rest = (part.strip() for part in text.partition(":"))
    digest, *words = rest.split() or [""]
    check_client_id(client, where)
    if not _HASH.fullmatch(digest):
        raise ConfigurationError(f"{where}: not 64 hex digits after {client!r}")
    limits = [word for word in words if "/" in word]
    roles = [word for word in words if "/" not in word]
    check_roles(roles, where)
    allowed = parse_limits(limits, where) if limits else None
    return client, KeyEntry(bytes.fromhex(digest), frozenset(roles), allowed)


def _check_new(client: str, known: bool, owner: str | None, where: str) -> None:
    if known:
        raise ConfigurationError(f"{where}: client {client!r} is there twice")
    if owner is not None:
        raise ConfigurationError(f"{where}: client {client!r} has the key of {owner!r}")
