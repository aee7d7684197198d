"""How services are reached: addresses, TLS, keys, load balancing, options."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest
import reaas
from reaas._channel import Endpoint, is_loopback
from reaas.testing import FakeServer

from tests.sdk.samples import make_images

ONCE = reaas.ChannelOptions(retry_for_s=0)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:50051",
        "127.8.9.1:1",
        "localhost:50051",
        "localhost",
        "[::1]:50051",
        "dns:///localhost:50051",
        "dns:localhost:50051",
        "dns://8.8.8.8/127.0.0.1:1",
        "ipv4:127.0.0.1:1,127.0.0.1:2",
        "ipv6:[::1]:1",
        "unix:/run/reaas.sock",
        "unix-abstract:reaas",
    ],
)
def test_these_addresses_stay_on_this_machine(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:50051",
        "encoder:50051",
        "dns:///encoder.reaas.svc:50051",
        "localhost.example.com:1",
        "ipv4:127.0.0.1:1,10.0.0.1:1",
        "[2001:db8::1]:1",
        "127.0.0.1.example.com:1",
        "xds:///127.0.0.1",
        "",
        "[bad",
    ],
)
def test_these_addresses_may_leave_it(address: str) -> None:
    assert not is_loopback(address)


@pytest.mark.parametrize("client", [reaas.Client, reaas.AsyncClient])
def test_a_key_never_leaves_in_plain_text_unasked(client: Any) -> None:
    with pytest.raises(reaas.InvalidArgumentError, match="unencrypted to encoder:50051") as caught:
        client("encoder:50051", api_key="secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(reaas.InvalidArgumentError, match="unencrypted to f2i:1"):
        client("localhost:50051", "f2i:1", api_key="secret")
    client("encoder:50051")
    client("encoder:50051", api_key="secret", tls=reaas.TLS())
    allowed = reaas.ChannelOptions(allow_key_over_plaintext=True)
    client("encoder:50051", api_key="secret", options=allowed)


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(reaas.InvalidArgumentError, match="printable ASCII"):
        reaas.Client("localhost:1", api_key=key)


@pytest.mark.parametrize(
    "options",
    [
        {"messages_in_flight": 0},
        {"preferred_message_bytes": 0},
        {"perturb_message_inputs": 0},
        {"retry_for_s": -1.0},
    ],
)
def test_options_that_make_no_sense_are_named(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(reaas.InvalidArgumentError, match=f"ChannelOptions.{name}"):
        reaas.ChannelOptions(**options)


def test_raw_grpc_options_win() -> None:
    raw = (("grpc.keepalive_time_ms", 7), ("grpc.default_authority", "x"))
    endpoint = Endpoint("localhost:1", None, reaas.ChannelOptions(grpc_options=raw))
    arguments = dict(endpoint._arguments())
    assert arguments["grpc.keepalive_time_ms"] == 7
    assert arguments["grpc.default_authority"] == "x"


def test_a_proxy_is_not_the_way_to_this_machine(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with reaas.Client(server.address, options=ONCE) as client:
        assert len(client.encode(make_images(2), "fake")) == 2


def test_all_addresses_of_a_name_get_queries() -> None:
    with FakeServer() as one, FakeServer() as two:
        address = f"ipv4:{one.address},{two.address}"
        with reaas.Client(address) as client:
            while not (one.meter.totals().queries and two.meter.totals().queries):
                client.encode(make_images(1), "fake")


def test_a_replica_that_dies_is_left_out(make_client: Any) -> None:
    with FakeServer() as one, FakeServer() as two:
        client = make_client(f"ipv4:{one.address},{two.address}")
        client.encode(make_images(1), "fake")
        one.stop()
        for _ in range(10):
            assert len(client.encode(make_images(1), "fake")) == 1


class Authority:
    """Certificates of a test: an authority, a server and a client that it has signed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._openssl("req", "-x509", *self._new("ca"), "-subj", "/CN=test authority")
        for name in ("server", "client"):
            sign = ("-CA", str(self.path("ca.pem")), "-CAkey", str(self.path("ca.key")))
            names = ("-addext", "subjectAltName=DNS:reaas.test,IP:127.0.0.1")
            self._openssl("req", "-x509", *self._new(name), "-subj", f"/CN={name}", *sign, *names)

    def path(self, name: str) -> Path:
        return self._directory / name

    def server(self, *, mutual: bool) -> grpc.ServerCredentials:
        pair = (self.path("server.key").read_bytes(), self.path("server.pem").read_bytes())
        authority = self.path("ca.pem").read_bytes() if mutual else None
        return grpc.ssl_server_credentials([pair], authority, mutual)

    def _new(self, name: str) -> tuple[str, ...]:
        key, pem = self.path(f"{name}.key"), self.path(f"{name}.pem")
        return "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(pem), "-days", "2"

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def test_tls_is_checked_against_the_authority(authority: Authority, make_client: Any) -> None:
    with FakeServer(credentials=authority.server(mutual=False), api_keys={"k": "me"}) as server:
        tls = reaas.TLS(ca=authority.path("ca.pem"))
        assert make_client(server.address, tls=tls, api_key="k").info().client_id == "me"
        unknown = make_client(server.address, tls=reaas.TLS(), options=ONCE)
        with pytest.raises(reaas.ServiceUnavailableError):
            unknown.info()
        other_name = reaas.TLS(ca=authority.path("ca.pem"), server_name="other.test")
        with pytest.raises(reaas.ServiceUnavailableError):
            make_client(server.address, tls=other_name, options=ONCE).info()
        its_name = reaas.TLS(ca=authority.path("ca.pem"), server_name="reaas.test")
        assert make_client(server.address, tls=its_name, api_key="k").info().client_id == "me"


def test_mutual_tls_needs_a_certificate(authority: Authority, make_client: Any) -> None:
    with FakeServer(credentials=authority.server(mutual=True)) as server:
        pem = authority.path
        tls = reaas.TLS(ca=pem("ca.pem"), cert=pem("client.pem"), key=pem("client.key"))
        assert len(make_client(server.address, tls=tls).encode(make_images(1), "fake")) == 1
        anonymous = reaas.TLS(ca=authority.path("ca.pem"))
        with pytest.raises(reaas.ServiceUnavailableError):
            make_client(server.address, tls=anonymous, options=ONCE).info()


def test_certificate_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(reaas.InvalidArgumentError, match=r"tls\.ca: cannot read .*nowhere"):
        reaas.Client("localhost:1", tls=reaas.TLS(ca=tmp_path / "nowhere"))
    with pytest.raises(reaas.InvalidArgumentError, match="go together"):
        reaas.Client("localhost:1", tls=reaas.TLS(cert=tmp_path / "cert"))
