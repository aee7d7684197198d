"""Who calls: API keys and the ids that they stand for."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reaas_runtime.errors import ConfigurationError, DomainError, Reason
from reaas_runtime.quota import Allowance, parse_limits

ANONYMOUS = "anonymous"
OTHER = "other"
OPERATOR = "operator"
ADMIN = "admin"
ROLES = frozenset({OPERATOR, ADMIN})
"""What a key may allow beyond queries. `operator`: run pre-trainings, end and publish its own ones.
`admin`: the same with everybody's."""
CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SCHEME = "bearer "


@dataclass(frozen=True)
class KeyEntry:
    """One line of the key file."""

    hash: bytes
    """SHA-256 of the key."""
    roles: frozenset[str] = frozenset()
    limits: Allowance | None = None
    """Queries that the client may ask; None: the service's default."""


class ApiKeys:
    """The clients that may call. Holds hashes of keys, never keys."""

    def __init__(self, entries: dict[str, KeyEntry], *, allow_anonymous: bool = False) -> None:
        self._entries = entries
        self._allow_anonymous = allow_anonymous

    @classmethod
    def load(cls, file: Path | None, *, allow_anonymous: bool) -> ApiKeys:
        """Read the key file. Raises ConfigurationError naming the line that is wrong."""
        entries = {} if file is None else read_key_file(file)
        return cls(entries, allow_anonymous=allow_anonymous)

    @property
    def client_ids(self) -> list[str]:
        """All ids, in the order of the key file."""
        return list(self._entries)

    def roles_of(self, client_id: str) -> frozenset[str]:
        """Roles of a client; none for an anonymous one."""
        entry = self._entries.get(client_id)
        return frozenset() if entry is None else entry.roles

    @property
    def limits(self) -> dict[str, Allowance]:
        """Of the clients that have limits of their own."""
        return {
            client: entry.limits
            for client, entry in self._entries.items()
            if entry.limits is not None
        }

    def authenticate(self, authorization: str | None) -> str:
        """The client id of an `authorization: Bearer <API key>` value.

        Compares with every stored hash in constant time each, so that timing tells nothing. A wrong
        key is refused even where anonymous callers are allowed. Raises DomainError UNAUTHENTICATED.
        """
        if authorization is None:
            if self._allow_anonymous:
                return ANONYMOUS
            raise _unauthenticated("no API key: send 'authorization: Bearer <API key>'")
        if not authorization.lower().startswith(_SCHEME):
            raise _unauthenticated("authorization is not of the form 'Bearer <API key>'")
        presented = key_hash(authorization[len(_SCHEME) :].strip())
        matches = [
            client
            for client, entry in self._entries.items()
            if hmac.compare_digest(entry.hash, presented)
        ]
        if not matches:
            raise _unauthenticated("the API key is not known")
        return matches[0]


def key_hash(key: str) -> bytes:
    """SHA-256 of a key. Keys are 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(key.encode()).digest()


def read_key_file(file: Path) -> dict[str, KeyEntry]:
    """Parse 'client_id: sha256hex [role ...] [limit ...]' lines; '#' starts a comment.

    What has a '/' is a limit: '100/second', '1000000/day'.

    Raises ConfigurationError.
    """
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise ConfigurationError(
            f"api_keys_file {file} cannot be read: {error.strerror}"
        ) from error
    entries: dict[str, KeyEntry] = {}
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        client, _, rest = (part.strip() for part in text.partition(":"))
        digest, *words = rest.split() or [""]
        limits = [word for word in words if "/" in word]
        roles = [word for word in words if "/" not in word]
        check_client_id(client, f"{file}:{number}")
        if not _HASH.fullmatch(digest):
            raise ConfigurationError(f"{file}:{number}: not 64 hex digits after {client!r}")
        if client in entries:
            raise ConfigurationError(f"{file}:{number}: client {client!r} is there twice")
        check_roles(roles, f"{file}:{number}")
        allowed = parse_limits(limits, f"{file}:{number}") if limits else None
        entries[client] = KeyEntry(bytes.fromhex(digest), frozenset(roles), allowed)
    return entries


def check_client_id(client: str, where: str) -> None:
    """Raise ConfigurationError unless `client` can be an id; ids become metric labels."""
    if not CLIENT_ID.fullmatch(client):
        raise ConfigurationError(
            f"{where}: client id {client!r} is not 1 to 63 letters, digits, '.', '_' or '-'"
        )
    if client in (ANONYMOUS, OTHER):
        raise ConfigurationError(f"{where}: client id {client!r} is reserved")


def check_roles(roles: Iterable[str], where: str) -> None:
    """Raise ConfigurationError for a role that no service knows."""
    for role in roles:
        if role not in ROLES:
            known = ", ".join(sorted(ROLES))
            raise ConfigurationError(f"{where}: role {role!r} is not known; there are: {known}")


def _unauthenticated(message: str) -> DomainError:
    return DomainError(Reason.UNAUTHENTICATED, message, field="metadata.authorization")
