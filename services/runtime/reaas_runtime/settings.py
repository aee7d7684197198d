"""What an operator can set, from `REAAS_*` environment variables or command-line flags."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1 << 20
Port = Annotated[int, Field(ge=0, le=65535)]


class ServerSettings(BaseSettings):
    """Settings that every REaaS service has. Each default says why it is what it is."""

    model_config = SettingsConfigDict(
        env_prefix="REAAS_",
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on. Loopback, so that nothing is exposed by accident."""
    port: Port = 50051
    """Port to listen on; 0 lets the system choose."""
    metrics_host: str = "127.0.0.1"
    """Address of the Prometheus endpoint. It shows client ids, hence loopback."""
    metrics_port: Port = 9464
    """Port of the Prometheus endpoint; 0 lets the system choose."""
    health_port: Port | None = None
    """Plain-text port on the same address that answers grpc.health.v1 and nothing else: for probes
    that cannot speak TLS, as those of Kubernetes. None: only the service's own port answers."""
    models_dir: Path = Path("models")
    """Model repository: <name>/<version>/{model.onnx,manifest.json}."""
    latest_wait_s: NonNegativeFloat = 60.0
    """Longest time that a new version waits to become the latest one until all replicas of all
    services on this repository have it: a model of ordinary size loads in seconds."""
    readiness_dir: Path | None = None
    """Directory where replicas mark what they have warm. None: `.ready` in the repository."""
    model_poll_s: PositiveFloat = 5.0
    """Seconds between looks for new models. Publishing is rare and a look is cheap."""

    api_keys_file: Path | None = None
    """File with one 'client_id: sha256 of the API key' a line (reaas-keys)."""
    keys_poll_s: PositiveFloat = 1.0
    """Seconds between looks at the key file. A key that is taken out of it is refused after two."""
    allow_anonymous: bool = False
    """Answer callers without an API key, metered as 'anonymous'. Off: queries cost money."""
    default_limits: tuple[str, ...] = ()
    """Queries that each client without limits of its own may ask of this replica, anonymous ones
    together, for example ["100/second","1000000/day"]. None by default: what is paid, is served."""
    max_calls_per_s: PositiveFloat = 2000.0
    """Calls (messages of streams) a second of one key, or of one address without a key: more than
    one replica answers. Five seconds' worth may come at once."""
    max_refusals_per_s: PositiveFloat = 50.0
    """The same for calls that are refused for what they are: a caller that is wrong so often does
    not look at the answers. Each takes as much of max_calls_per_s as leaves this many."""
    max_metered_clients: PositiveInt = 200
    """Clients with metrics of their own; later ones in the key file share 'other'. Each client is
    a set of time series, and Prometheus suffers from many thousands."""

    tls: bool = False
    """Serve TLS; needs tls_cert and tls_key."""
    tls_cert: Path | None = None
    """Certificate chain, PEM."""
    tls_key: Path | None = None
    """Private key, PEM."""
    tls_client_ca: Path | None = None
    """Where given, only clients with a certificate of this authority are let in. All three files
    may be replaced while the service runs: the next handshake takes the new ones."""
    tls_client_names: tuple[str, ...] = ()
    """Where given, of the certificates of tls_client_ca only those with one of these names are let
    in: common name, or a subject alternative name."""
    tls_client_crl: Path | None = None
    """Certificates that tls_client_ca has revoked, PEM. Read again when it changes."""
    allow_plaintext: bool = False
    """Allow plain text off loopback, for example behind a mesh that encrypts: keys travel in it."""

    max_request_bytes: PositiveInt = 64 * MIB
    """Most bytes of one message: 64 images of 224x224x3 float32 take 38.5 MB."""
    max_pending_bytes: PositiveInt = 512 * MIB
    """Most bytes of messages waiting or in work: they are in memory, whatever their inputs."""
    default_deadline_s: PositiveFloat = 60.0
    """Longest time for a query where the client sets no deadline."""

    max_connections: PositiveInt = 4096
    """Most connections: each takes memory and a descriptor. Fewer where the process may not open so
    many files."""
    max_connections_per_peer: PositiveInt = 256
    """Most connections of one address (of IPv6: of one network of /64), so that no peer takes them
    all. Set it to max_connections behind a proxy, whose address they all have."""
    max_streams_per_connection: PositiveInt = 256
    """Most calls at a time on one connection; clients keep what is beyond until one has ended."""
    max_connection_idle_s: PositiveFloat = 300.0
    """A connection without a call for so long is closed: clients open a new one in milliseconds."""
    server_ping_s: PositiveFloat = 60.0
    """Seconds without a sign of life until a client is asked for one."""
    server_ping_timeout_s: PositiveFloat = 20.0
    """Seconds until a client that does not answer is given up, with its calls."""
    reflection: bool = True
    """Describe the contract to tools such as grpcurl, without a key. It is public; turn it off
    where nothing is to be answered that does not have to be."""

    drain_seconds: NonNegativeFloat = 5.0
    """After SIGTERM, time to go on serving as NOT_SERVING while balancers look away."""
    grace_seconds: NonNegativeFloat = 30.0
    """After draining, time for calls in flight to end. Within Kubernetes' 30 s by default."""
    min_client_ping_s: PositiveFloat = 5.0
    """Shortest keepalive interval allowed to clients. gRPC's own 300 s would cut off clients that
    ping every 10 s during a long call."""
    max_connection_age_s: PositiveFloat = 600.0
    """Connections are renewed after this time, so that clients find new replicas."""
    log_format: Literal["json", "console"] = "json"
    """json for machines, console for people."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.tls != (self.tls_cert is not None and self.tls_key is not None):
            raise ValueError("tls, tls_cert and tls_key go together: set all three or none")
        if self.tls_client_ca is not None and not self.tls:
            raise ValueError("tls_client_ca needs tls")
        if self.tls_client_ca is None and (self.tls_client_names or self.tls_client_crl):
            raise ValueError("tls_client_names and tls_client_crl need tls_client_ca")
        if not (self.tls or self.allow_plaintext or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host!r} is not loopback: set tls with tls_cert and tls_key, or "
                "allow_plaintext where something else encrypts the connection"
            )
        if self.api_keys_file is None and not self.allow_anonymous:
            raise ValueError(
                "no client could be let in: set api_keys_file "
                "(make a key with 'reaas-keys add CLIENT_ID') or allow_anonymous"
            )
        if self.max_pending_bytes < self.max_request_bytes:
            raise ValueError(
                f"max_pending_bytes {self.max_pending_bytes} is below max_request_bytes "
                f"{self.max_request_bytes}: the largest message could never be served"
            )
        return self


class ServiceSettings(ServerSettings):
    """Settings of the services that answer queries with a model."""

    max_batch_inputs: PositiveInt = 1024
    """Most inputs in one message: 3 MB of 32x32x3 uint8, a fraction of a second of work."""
    max_pending_inputs: PositiveInt = 4096
    """Most inputs waiting or in work; beyond, callers are told to come back later."""
    model_load_s: PositiveFloat = 300.0
    """Longest time for a version to load; then it counts as broken. Certified constants of the
    largest encoders take minutes."""
    max_model_bytes: PositiveInt = 1024 * MIB
    """Most bytes of a model.onnx: the largest encoders that a CPU serves have a few hundred MB."""
    workers: NonNegativeInt = 0
    """Worker threads; 0: as many as the cgroup grants CPUs (not as the host has)."""

    @model_validator(mode="after")
    def _batch_fits(self) -> Self:
        if self.max_pending_inputs < self.max_batch_inputs:
            raise ValueError(
                f"max_pending_inputs {self.max_pending_inputs} is below max_batch_inputs "
                f"{self.max_batch_inputs}: a full batch could never be served"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether `host` is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
