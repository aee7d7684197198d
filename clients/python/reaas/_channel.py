"""How a client reaches a service: addresses, channel options, TLS, API key."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from grpc import aio

from reaas._errors import InvalidArgumentError

GrpcOption = tuple[str, str | int]


@dataclass(frozen=True)
class ChannelOptions:
    """How a client talks. Every default has its reason; `grpc_options` overrides them all."""

    retry_for_s: float = 5.0
    """How long a message is sent again after its first failure, while the service is unavailable
    or asks to come back later. 5 s covers a broken connection and a replica that is replaced, and
    a wrong address is still reported soon. Set 30 to sit out a restart; 0 never retries."""
    retry_first_delay_s: float = 0.1
    """Wait before the first retry; doubles each time. A reconnect on a LAN takes less."""
    retry_max_delay_s: float = 2.0
    """Longest wait between retries, unless the service asks for more: a service that is back is
    found within 2 s."""
    timeout_s: float | None = None
    """For each call, unless it names its own. None: for each message the service's default, since
    the service knows how long its bounds take."""
    info_timeout_s: float = 10.0
    """For `models` and `info`, which compute nothing."""
    messages_in_flight: int = 2
    """Messages of one split batch on their way at once: one is computed while the next travels.
    Set it to the number of replicas to keep all of them busy."""
    preferred_message_bytes: int = 8 * 2**20
    """Batches are split into messages of about this size, within the service's limits. 8 MiB is
    2,700 images of 32x32 uint8 and still leaves the wire quickly."""
    perturb_message_inputs: int = 32
    """Most inputs of one F2IPerturb message. All of a message share one deadline, and a search that
    has no time left certifies less: with few inputs the service's default leaves each enough."""
    max_reply_bytes: int = 256 * 2**20
    """Largest reply taken. gRPC's own limit of 4 MiB is 8,000 features of d = 128."""
    attempt_timeout_s: float | None = None
    """Time for one attempt of a message; one that is over is made again, elsewhere if there is
    another replica. None: the time left is divided equally among at most three attempts, as many
    as there are addresses (a name counts as two, since it may have several), so a replica that
    hangs costs a part of the time and not all of it; F2IPerturb gets all of it, since its search
    ends by the deadline and a shorter one would certify less."""
    hedge_after_s: float | None = None
    """A message without an answer after this time is sent a second time; the first answer counts.
    None: never. Cuts the slowest calls; what both replicas answer is billed twice. Choose more
    than nearly all calls take."""
    eject_s: float = 5.0
    """A replica that failed everything it was asked gets nothing for this long, and for longer each
    time that it happens again; at least half of two and two of three stay. 0: never."""
    load_balancing: str = "round_robin"
    """gRPC policy over the addresses that a name resolves to. gRPC's own default stays with the
    first one, so that new replicas would idle."""
    dns_refresh_s: float = 10.0
    """Least time between two look-ups of a name; a lost connection asks for one. 10 s finds new
    replicas soon without a storm of look-ups."""
    reconnect_max_s: float = 2.0
    """Longest wait between attempts to connect. gRPC's own 120 s would outlast every retry."""
    keepalive_s: float = 10.0
    """A ping during a call after this much silence, so that a dead or stopped peer is noticed.
    Services of this project allow it; others close connections that ping oftener than they permit:
    set it higher for those."""
    keepalive_timeout_s: float = 5.0
    """A peer that leaves a ping unanswered this long is dead: its calls are made again elsewhere,
    and it gets no others until it is back."""
    allow_key_over_plaintext: bool = False
    """Send the API key unencrypted to a host that is not this one. Only behind a mesh that
    encrypts by itself."""
    grpc_options: tuple[GrpcOption, ...] = ()
    """Raw gRPC channel arguments; they win over everything above."""

    def __post_init__(self) -> None:
        at_least = {
            "messages_in_flight": 1,
            "perturb_message_inputs": 1,
            "preferred_message_bytes": 1,
            "retry_for_s": 0,
            "eject_s": 0,
        }
        for name, least in at_least.items():
            value = getattr(self, name)
            if not value >= least:
                raise _senseless(name, value, f"at least {least}", f">= {least}")
        for name in ("attempt_timeout_s", "hedge_after_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise _senseless(name, value, "above 0, or None", "> 0")


def _senseless(name: str, value: float, may_be: str, limit: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"ChannelOptions.{name} is {value}; it must be {may_be}",
        field=name,
        limit=limit,
        got=str(value),
    )


@dataclass(frozen=True)
class TLS:
    """Encrypt, and check who answers. Files are PEM."""

    ca: Path | None = None
    """Certificate authorities to trust; None: those that gRPC ships with."""
    cert: Path | None = None
    """This client's own certificate, where the service asks for one (mTLS)."""
    key: Path | None = None
    """Private key of `cert`."""
    server_name: str | None = None
    """Name in the service's certificate where it is not the host of the address."""

    def credentials(self) -> grpc.ChannelCredentials:
        """The files, read. Raises InvalidArgumentError for one that cannot be."""
        if (self.cert is None) != (self.key is None):
            raise InvalidArgumentError("tls: cert and key go together", field="tls")
        return grpc.ssl_channel_credentials(
            _read("tls.ca", self.ca), _read("tls.key", self.key), _read("tls.cert", self.cert)
        )


def _read(field: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise InvalidArgumentError(
            f"{field}: cannot read {path}: {error.strerror}", field=field, got=str(path)
        ) from error


@dataclass(frozen=True)
class Endpoint:
    """One service as a client reaches it."""

    address: str
    """`host:port`, or any gRPC target such as `dns:///reaas-encoder.reaas.svc:50051`."""
    tls: TLS | None
    options: ChannelOptions

    def open(self) -> grpc.Channel:
        """A channel for threads; it connects with the first call."""
        if self.tls:
            return grpc.secure_channel(self.address, self.tls.credentials(), self._arguments())
        return grpc.insecure_channel(self.address, self._arguments())

    def open_aio(self) -> aio.Channel:
        """A channel for the running event loop; it connects with the first call."""
        if self.tls:
            return aio.secure_channel(self.address, self.tls.credentials(), self._arguments())
        return aio.insecure_channel(self.address, self._arguments())

    @property
    def replicas(self) -> int:
        """How many addresses there are, as far as the target tells: a name may have several."""
        scheme, _, listed = self.address.partition(":")
        if scheme in ("ipv4", "ipv6"):
            return len(listed.split(","))
        return 1 if scheme.startswith("unix") or _is_one_address(self.address) else 2

    def _arguments(self) -> list[GrpcOption]:
        options = self.options
        policy = balancing(options.load_balancing, options.eject_s)
        ours: dict[str, str | int] = {
            "grpc.service_config": json.dumps({"loadBalancingConfig": [policy]}),
            "grpc.max_send_message_length": -1,  # The service names its limit; messages fit it.
            "grpc.max_receive_message_length": options.max_reply_bytes,
            "grpc.keepalive_time_ms": _ms(options.keepalive_s),
            "grpc.keepalive_timeout_ms": _ms(options.keepalive_timeout_s),
            # Of pings that gRPC sends to measure the connection too: while one of those is on its
            # way, keepalive sends none, and a stopped peer would be noticed after a minute.
            "grpc.http2.ping_timeout_ms": _ms(options.keepalive_timeout_s),
            "grpc.http2.max_pings_without_data": 0,  # A long F2IPerturb call is all silence.
            "grpc.initial_reconnect_backoff_ms": _ms(options.retry_first_delay_s),
            "grpc.max_reconnect_backoff_ms": _ms(options.reconnect_max_s),
            "grpc.dns_min_time_between_resolutions_ms": _ms(options.dns_refresh_s),
            "grpc.primary_user_agent": f"reaas-python/{version('reaas')}",
        }
        if is_loopback(self.address):
            ours["grpc.enable_http_proxy"] = 0  # A proxy is never the way to this very host.
        if self.tls and self.tls.server_name:
            ours["grpc.ssl_target_name_override"] = self.tls.server_name
        return list((ours | dict(options.grpc_options)).items())


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


EJECTION_LOOKS_S = 0.25
"""Seconds between looks for replicas that fail everything: a second attempt can wait for it."""


def balancing(policy: str, eject_s: float) -> dict[str, object]:
    """gRPC's load-balancing configuration: `policy`, without replicas that fail everything."""
    inner: dict[str, object] = {policy: {}}
    if not eject_s:
        return inner
    ejection = {
        "threshold": 99,  # Percent: one that answers now and then is busy, not broken.
        "enforcementPercentage": 100,
        "minimumHosts": 2,
        "requestVolume": 1,
    }
    return {
        "outlier_detection_experimental": {
            "interval": f"{EJECTION_LOOKS_S}s",
            "baseEjectionTime": f"{eject_s:.3f}s",
            "maxEjectionTime": f"{12 * eject_s:.3f}s",
            "maxEjectionPercent": 33,
            "failurePercentageEjection": ejection,
            "childPolicy": [inner],
        }
    }


def _is_one_address(address: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(f"//{address}").hostname or "")
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether a gRPC target never leaves this machine. A name counts only if it is `localhost`."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    if address.startswith("dns://"):  # dns:///host:port, dns://resolver/host:port
        address = address.rpartition("/")[2]
    for prefix in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(prefix)
    return all(_is_loopback_host(host) for host in address.split(","))


def _is_loopback_host(host_and_port: str) -> bool:
    try:
        host = urlsplit(f"//{host_and_port}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_api_key(api_key: str | None, endpoint: Endpoint) -> None:
    """Raises InvalidArgumentError for a key that cannot be sent, or must not be sent this way."""
    if api_key is None:
        return
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise InvalidArgumentError(
            "api_key must be printable ASCII without spaces", field="api_key"
        )
    plain = endpoint.tls is None and not endpoint.options.allow_key_over_plaintext
    if plain and not is_loopback(endpoint.address):
        raise InvalidArgumentError(
            f"api_key would travel unencrypted to {endpoint.address}; pass tls=reaas.TLS(...), "
            "or set ChannelOptions.allow_key_over_plaintext",
            field="api_key",
        )
