"""Who calls: API keys and the ids that they stand for."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.key_file import (
    ANONYMOUS,
    OPERATOR,
    OTHER,
    ROLES,
    KeyEntry,
    check_client_id,
    check_roles,
    read_key_file,
)
from reaas_runtime.quota import Allowance

__all__ = [
    "ANONYMOUS",
    "OPERATOR",
    "OTHER",
    "ROLES",
    "ApiKeys",
    "KeyEntry",
    "check_client_id",
    "check_roles",
    "key_hash",
    "read_key_file",
]
_SCHEME = "bearer "


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
    def entries(self) -> dict[str, KeyEntry]:
        """What the key file says of each client."""
        return dict(self._entries)

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


def _unauthenticated(message: str) -> DomainError:
    return DomainError(Reason.UNAUTHENTICATED, message, field="metadata.authorization")
