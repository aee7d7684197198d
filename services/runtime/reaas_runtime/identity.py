"""Who calls: API keys and the ids that they stand for."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from reaas_runtime.errors import ConfigurationError, DomainError, Reason

ANONYMOUS = "anonymous"
OTHER = "other"
CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SCHEME = "bearer "


class ApiKeys:
    """The clients that may call. Holds hashes of keys, never keys."""

    def __init__(self, hashes: dict[str, bytes], *, allow_anonymous: bool = False) -> None:
        self._hashes = hashes
        self._allow_anonymous = allow_anonymous

    @classmethod
    def load(cls, file: Path | None, *, allow_anonymous: bool) -> ApiKeys:
        """Read the key file. Raises ConfigurationError naming the line that is wrong."""
        hashes = {} if file is None else read_key_file(file)
        return cls(hashes, allow_anonymous=allow_anonymous)

    @property
    def client_ids(self) -> list[str]:
        """All ids, in the order of the key file."""
        return list(self._hashes)

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
        matches = [c for c, known in self._hashes.items() if hmac.compare_digest(known, presented)]
        if not matches:
            raise _unauthenticated("the API key is not known")
        return matches[0]


def key_hash(key: str) -> bytes:
    """SHA-256 of a key. Keys are 256 random bits, so a slow password hash would add nothing."""
    return hashlib.sha256(key.encode()).digest()


def read_key_file(file: Path) -> dict[str, bytes]:
    """Parse 'client_id: sha256hex' lines; '#' starts a comment. Raises ConfigurationError."""
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise ConfigurationError(
            f"api_keys_file {file} cannot be read: {error.strerror}"
        ) from error
    hashes: dict[str, bytes] = {}
    for number, line in enumerate(lines, start=1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        client, _, digest = (part.strip() for part in text.partition(":"))
        check_client_id(client, f"{file}:{number}")
        if not _HASH.fullmatch(digest):
            raise ConfigurationError(f"{file}:{number}: not 64 hex digits after {client!r}")
        if client in hashes:
            raise ConfigurationError(f"{file}:{number}: client {client!r} is there twice")
        hashes[client] = bytes.fromhex(digest)
    return hashes


def check_client_id(client: str, where: str) -> None:
    """Raise ConfigurationError unless `client` can be an id; ids become metric labels."""
    if not CLIENT_ID.fullmatch(client):
        raise ConfigurationError(
            f"{where}: client id {client!r} is not 1 to 63 letters, digits, '.', '_' or '-'"
        )
    if client in (ANONYMOUS, OTHER):
        raise ConfigurationError(f"{where}: client id {client!r} is reserved")


def _unauthenticated(message: str) -> DomainError:
    return DomainError(Reason.UNAUTHENTICATED, message, field="metadata.authorization")
