"""Certificates that are replaced while a service runs, clients that are not let in, bad files."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from reaas.v1 import model_pb2
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub, add_EncoderServiceServicer_to_server
from reaas_runtime import ConfigurationError, start_server

from tests.runtime.toy import Toy, toy_settings
from tests.support.servers import error_info, running, scrape


class Files:
    """An authority, and the files of a server whose certificates it signs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = trustme.CA()
        self.cert, self.key = directory / "cert.pem", directory / "key.pem"
        self.ca, self.crl = directory / "ca.pem", directory / "crl.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.renew()

    def renew(self) -> int:
        """A new certificate and key in place of the old ones; its serial number."""
        issued = self.authority.issue_cert("127.0.0.1", "::1", "localhost")
        for blob, path in (
            (issued.private_key_pem, self.key),
            (issued.cert_chain_pems[0], self.cert),
        ):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(blob.bytes())
            os.replace(fresh, path)
        return serial_of(issued)

    def revoke(self, *serials: int) -> None:
        now = dt.datetime.now(dt.UTC)
        issuer = x509.load_pem_x509_certificate(self.authority.cert_pem.bytes())
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject)
        builder = builder.last_update(now).next_update(now + dt.timedelta(days=1))
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(revoked.build())
        key = serialization.load_pem_private_key(self.authority.private_key_pem.bytes(), None)
        signed = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]
        fresh = self.crl.with_suffix(".new")
        fresh.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        os.replace(fresh, self.crl)

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls": True, "tls_cert": self.cert, "tls_key": self.key}

    def credentials(self, client: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
        root = self.authority.cert_pem.bytes()
        if client is None:
            return grpc.ssl_channel_credentials(root)
        return grpc.ssl_channel_credentials(
            root, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
        )


def serial_of(issued: trustme.LeafCert) -> int:
    return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).serial_number


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


async def shown(port: int) -> int:
    """Serial number of the certificate that the server shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return x509.load_der_x509_certificate(der).serial_number


async def ask(address: str, credentials: grpc.ChannelCredentials) -> str:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        stub: Any = EncoderServiceStub(channel)
        return str((await stub.GetInfo(model_pb2.GetInfoRequest(), timeout=10)).service)


async def refusal(address: str, credentials: grpc.ChannelCredentials) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await ask(address, credentials)
    return refused.value


async def test_a_new_certificate_is_shown_without_a_restart(models_dir: Path, files: Files) -> None:
    async with running(toy_settings(models_dir, **files.settings), Toy) as server:
        first = await shown(server.port)
        second = files.renew()
        assert await shown(server.port) == second != first
        assert await ask(server.address, files.credentials())
        files.key.write_text("no key")
        assert await shown(server.port) == second, "a faulty set is not taken over"
        files.cert.unlink()
        assert await shown(server.port) == second
        metrics = await scrape(server)
        assert metrics["reaas_tls_certificate_expiry_timestamp_seconds{}"] > 0
        third = files.renew()
        assert await shown(server.port) == third


async def test_names_of_clients(models_dir: Path, files: Files) -> None:
    settings = files.settings | {"tls_client_ca": files.ca, "tls_client_names": ("phone.example",)}
    phone = files.credentials(files.authority.issue_cert("phone.example"))
    other = files.credentials(files.authority.issue_cert("other.example"))
    async with running(toy_settings(models_dir, **settings), Toy) as server:
        assert await ask(server.address, phone)
        refused = await refusal(server.address, other)
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        assert error_info(refused).metadata["field"] == "client certificate"


async def test_revoked_clients(models_dir: Path, files: Files) -> None:
    lost, kept = (files.authority.issue_cert("phone.example") for _ in range(2))
    files.revoke()
    settings = files.settings | {"tls_client_ca": files.ca, "tls_client_crl": files.crl}
    async with running(toy_settings(models_dir, **settings), Toy) as server:
        assert await ask(server.address, files.credentials(lost))
        files.revoke(serial_of(lost))
        refused = await refusal(server.address, files.credentials(lost))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED
        assert await ask(server.address, files.credentials(kept))
        files.crl.write_text("no list")
        refused = await refusal(server.address, files.credentials(lost))
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED, "the list before stays"


def _other_key(files: Files) -> None:
    files.authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(str(files.key))


def _foreign_list(files: Files) -> None:
    files.revoke()
    trustme.CA().cert_pem.write_to_path(str(files.ca))


def _directory(files: Files) -> None:
    files.cert.unlink()
    files.cert.mkdir()


BROKEN: dict[str, tuple[Callable[[Files], Any], str]] = {
    "certificate of garbage": (
        lambda f: f.cert.write_text("x"),
        r"tls_cert .*cert\.pem has no PEM",
    ),
    "key of garbage": (lambda f: f.key.write_text("x"), r"tls_key .*key\.pem has no PEM private"),
    "key of another certificate": (_other_key, r"tls_key .*key\.pem is not the key of .*cert\.pem"),
    "no certificate": (lambda f: f.cert.unlink(), r"cert\.pem: No such file"),
    "no key": (lambda f: f.key.unlink(), r"key\.pem: No such file"),
    "authority of garbage": (lambda f: f.ca.write_text("x"), r"tls_client_ca .*ca\.pem has no PEM"),
    "list of garbage": (
        lambda f: f.crl.write_text("x"),
        r"tls_client_crl .*crl\.pem cannot be read",
    ),
    "list of another authority": (_foreign_list, r"tls_client_crl .*crl\.pem was not signed by"),
    "a directory": (_directory, r"cert\.pem: Is a directory"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_bad_files_are_named_with_the_reason(
    models_dir: Path, files: Files, fault: str
) -> None:
    files.revoke()
    breaks, message = BROKEN[fault]
    breaks(files)
    settings = files.settings | {"tls_client_ca": files.ca, "tls_client_crl": files.crl}
    with pytest.raises(ConfigurationError, match=message):
        await start_server(
            toy_settings(models_dir, **settings), Toy, add_EncoderServiceServicer_to_server
        )


def test_lists_without_an_authority_are_refused(models_dir: Path, files: Files) -> None:
    for setting in ({"tls_client_names": ("a",)}, {"tls_client_crl": files.crl}):
        with pytest.raises(ValueError, match="need tls_client_ca"):
            toy_settings(models_dir, **files.settings | setting)


async def test_an_ipv6_address_needs_no_brackets(models_dir: Path) -> None:
    async with running(toy_settings(models_dir, host="::1"), Toy) as server:
        assert server.address == f"[::1]:{server.port}"
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = EncoderServiceStub(channel)
            assert await stub.GetInfo(model_pb2.GetInfoRequest(), timeout=10)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "192.0.2.1:0: Cannot assign requested address: this machine has no such"),
        ("nowhere.invalid", "'nowhere.invalid' is no address"),
        ("2001:db8::1", r"\[2001:db8::1\]:0: Cannot assign requested address"),
    ],
)
async def test_why_an_address_cannot_be_listened_on(
    models_dir: Path, host: str, message: str
) -> None:
    settings = toy_settings(models_dir, host=host, allow_plaintext=True)
    with pytest.raises(ConfigurationError, match=message):
        await start_server(settings, Toy, add_EncoderServiceServicer_to_server)
