"""TLS: certificates that are replaced while the service runs, and which clients are let in."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import structlog
from cryptography import x509

from reaas_runtime.errors import ConfigurationError, DomainError, Reason
from reaas_runtime.settings import ServerSettings

_log = structlog.get_logger("reaas.server")
Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """The files that the settings name, read again as soon as one of them has changed.

    A set that is not valid is logged, and the one before stays in use: certificate and key are
    files of their own, and are replaced one after the other.
    """

    def __init__(self, settings: ServerSettings) -> None:
        assert settings.tls_cert is not None
        assert settings.tls_key is not None
        self._cert, self._key = settings.tls_cert, settings.tls_key
        self._authority = settings.tls_client_ca
        self._stamp = self._look()
        self._current = self._read()
        self.expiry = self._expiry()
        """Unix time at which the certificate in use ends."""

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that ask for the files at every handshake."""
        credentials = grpc.dynamic_ssl_server_credentials(
            self._current, self._changed, self._authority is not None
        )
        assert isinstance(credentials, grpc.ServerCredentials)
        return credentials

    def _expiry(self) -> float:
        return read_certificates(self._cert, "tls_cert")[0].not_valid_after_utc.timestamp()

    def _changed(self) -> Any:
        """Called by gRPC before a handshake: a new configuration, or None to go on as before."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            self._current, self.expiry = self._read(), self._expiry()
        except ConfigurationError as error:
            _log.error("certificates not taken over", why=str(error))
            return None
        _log.info("certificates taken over", expiry=self.expiry)
        return self._current

    def _look(self) -> Stamp:
        return tuple(stamp_of(file) for file in self._files())

    def _files(self) -> Sequence[Path]:
        own = (self._cert, self._key)
        return own if self._authority is None else (*own, self._authority)

    def _read(self) -> Any:
        read_certificates(self._cert, "tls_cert")
        _check_pair(self._cert, self._key)
        authority = None
        if self._authority is not None:
            read_certificates(self._authority, "tls_client_ca")
            authority = self._authority.read_bytes()
        pair = (self._key.read_bytes(), self._cert.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], authority)


class ClientCertificates:
    """Which certificates of the client authority are let in. Raises ConfigurationError."""

    def __init__(self, settings: ServerSettings) -> None:
        self._names = frozenset(settings.tls_client_names)
        self._file = settings.tls_client_crl
        self._authority = settings.tls_client_ca
        self._stamp: tuple[int, int, int] | None = None
        self._revoked: frozenset[int] = frozenset()
        if self._file is not None:
            self._stamp = stamp_of(self._file)
            self._revoked = self._read(self._file)

    def admit(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raise DomainError UNAUTHENTICATED for a peer whose certificate is not to be let in."""
        if not self._names and self._file is None:
            return
        seen = context.auth_context()
        if self._file is not None and self._is_revoked(self._file, seen):
            raise _refused("the client certificate was revoked")
        if self._names:
            shown = {
                value.decode(errors="replace")
                for key in ("x509_common_name", "x509_subject_alternative_name")
                for value in seen.get(key, ())
            }
            if not shown & self._names:
                raise _refused("the client certificate has no name that is let in")

    def _is_revoked(self, file: Path, seen: Any) -> bool:
        self._refresh(file)
        for pem in seen.get("x509_pem_cert", ()):
            try:
                serial = x509.load_pem_x509_certificate(pem).serial_number
            except ValueError:
                return True  # What cannot be read cannot be told from a revoked one.
            if serial in self._revoked:
                return True
        return not seen.get("x509_pem_cert")

    def _refresh(self, file: Path) -> None:
        """Take over a new list; a faulty one is logged, and the one before stays."""
        try:
            stamp = stamp_of(file)
            if stamp != self._stamp:
                self._stamp = stamp
                self._revoked = self._read(file)
                _log.info("revoked certificates taken over", revoked=len(self._revoked))
        except ConfigurationError as error:
            _log.error("revoked certificates not taken over", why=str(error))

    def _read(self, file: Path) -> frozenset[int]:
        try:
            revoked = x509.load_pem_x509_crl(file.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"tls_client_crl {file} cannot be read: {error}") from error
        assert self._authority is not None
        issuers = read_certificates(self._authority, "tls_client_ca")
        if not any(_signed(revoked, issuer) for issuer in issuers):
            raise ConfigurationError(
                f"tls_client_crl {file} was not signed by a certificate of {self._authority}"
            )
        return frozenset(entry.serial_number for entry in revoked)


def read_certificates(file: Path, setting: str) -> list[x509.Certificate]:
    """The certificates of a PEM file. Raises ConfigurationError naming file and reason."""
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{setting} {file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{setting} {file} has no PEM certificate: {error}") from error


def stamp_of(file: Path) -> tuple[int, int, int]:
    """What changes when a file is replaced or written. Raises ConfigurationError."""
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    return (status.st_ino, status.st_mtime_ns, status.st_size)


def _check_pair(cert: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            why = f"is not the key of the certificate in tls_cert {cert}"
        else:
            why = f"has no PEM private key that can be read ({error.reason or 'unreadable'})"
        raise ConfigurationError(f"tls_key {key} {why}") from error
    except OSError as error:
        raise ConfigurationError(f"tls_key {key}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"tls_key {key} is encrypted: remove its password") from error


def _no_password() -> str:
    raise ValueError("encrypted")


def _signed(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    return revoked.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]


def _refused(why: str) -> DomainError:
    return DomainError(Reason.UNAUTHENTICATED, why, field="client certificate")
