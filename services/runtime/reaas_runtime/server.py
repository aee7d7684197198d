"""A running service: gRPC server, health, reflection, metrics endpoint, model watcher, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from wsgiref.simple_server import WSGIServer

import grpc
import structlog
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.facts import show_facts
from reaas_runtime.health import Health
from reaas_runtime.identity import ApiKeys
from reaas_runtime.interceptor import CallInterceptor
from reaas_runtime.metering import Meter
from reaas_runtime.servicer import Servicer
from reaas_runtime.settings import ServerSettings
from reaas_runtime.supervision import Background

S = TypeVar("S", bound=Servicer)
Register = Callable[[Any, grpc.aio.Server], None]
# A call may outlive its connection's age by this much: longer than any sensible deadline.
_CONNECTION_GRACE_S = 3600

# How long one wait for the server's end takes; the end itself is noticed at once.
_LOOK_S = 60.0

# Handlers are done before their replies are on the wire.
_FLUSH_S = 1.0

_log = structlog.get_logger("reaas.server")


class RunningServer(Generic[S]):
    """One service on its ports. Made by `start_server`; also runs inside tests on port 0."""

    def __init__(self, settings: ServerSettings, servicer: S, keys: ApiKeys, meter: Meter) -> None:
        self.settings = settings
        self.servicer = servicer
        self.meter = meter
        self.background = servicer.background = Background()
        self.port = 0
        self.metrics_port = 0
        self._interceptor = CallInterceptor(keys, meter, settings)
        self._take_keys(keys)
        meter.watch_quotas(self._interceptor.quotas.used)
        self._server = grpc.aio.server(
            interceptors=[self._interceptor], options=channel_options(settings)
        )
        self.health = Health(servicer.descriptor.full_name, settings)
        self._metrics: WSGIServer | None = None

    @property
    def address(self) -> str:
        """host:port that clients connect to."""
        return f"{self.settings.host}:{self.port}"

    async def start(self, register: Register) -> None:
        """Listen as NOT_SERVING and begin to load models; SERVING when the first one is warm."""
        name = self.servicer.descriptor.full_name
        register(self.servicer, self._server)
        self.health.add_to(self._server)
        reflection.enable_server_reflection(
            (name, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        await self.health.start()
        self.port = self._bind()
        show_facts(self.meter, name, self.settings)
        self._metrics, _ = self._start_metrics()
        self.metrics_port = self._metrics.server_port
        await self.servicer.start()
        await self._server.start()
        self.background.start("gRPC server", self._watch_server())
        self.background.start("watcher of models and keys", self._watch_models())
        _log.info("listening", service=name, address=self.address, metrics_port=self.metrics_port)

    async def wait_ready(self) -> None:
        """Return when the service can answer."""
        while not self.servicer.usable:
            await asyncio.sleep(0.01)

    async def drain(self, drain_seconds: float | None = None) -> None:
        """NOT_SERVING; serve on a while; end calls within the grace; free the models."""
        seconds = self.settings.drain_seconds if drain_seconds is None else drain_seconds
        self.background.closing()
        _log.info("draining", drain_seconds=seconds, grace_seconds=self.settings.grace_seconds)
        await self.health.drain()
        await asyncio.sleep(seconds)
        self._interceptor.draining = True
        self.servicer.drain()
        stopping = asyncio.create_task(self._server.stop(self.settings.grace_seconds))
        idle = asyncio.create_task(self._interceptor.wait_idle())
        await asyncio.wait({stopping, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        # Let the last replies leave. What is then left are streams of health and reflection, which
        # never end by themselves.
        await asyncio.wait({stopping}, timeout=_FLUSH_S)
        await self.close()
        await stopping
        _log.info("stopped")

    async def close(self) -> None:
        """Cut off what still runs, then free ports, workers and models."""
        self.background.closing()
        await self._server.stop(None)
        await self.background.close()
        await self.health.close()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.shutdown)
            self._metrics.server_close()
        self.servicer.close()

    async def fail(self) -> None:
        """Say NOT_SERVING at once, after a part of the service was lost; then cut off the rest."""
        await self.health.drain()
        await self.close()

    async def _watch_server(self) -> None:
        """Return when the server has ended; raise what ended it."""
        # With a timeout gRPC shields what it waits for: cancelling this must not disturb the stop.
        while await self._server.wait_for_termination(_LOOK_S):
            pass

    async def _watch_models(self) -> None:
        """Look for models and keys again and again; a failure is logged and tried again."""
        while True:
            try:
                await asyncio.to_thread(self.servicer.refresh)
            except Exception:
                _log.exception("models could not be looked for")
            await self.health.report(serving=self.servicer.usable)
            await asyncio.sleep(self.settings.model_poll_s)
            self._reload_keys()

    def _reload_keys(self) -> None:
        """Take over the key file; a faulty one is logged, and the keys stay as they are."""
        try:
            self._take_keys(load_keys(self.settings))
        except ConfigurationError as error:
            _log.error("API keys not taken over", why=str(error))

    def _take_keys(self, keys: ApiKeys) -> None:
        self._interceptor.keys = keys
        self._interceptor.quotas.allow(keys.limits)
        self.meter.know_clients(keys.client_ids)

    def _bind(self) -> int:
        address = f"{self.settings.host}:{self.settings.port}"
        try:
            if self.settings.tls:
                return self._server.add_secure_port(address, server_credentials(self.settings))
            return self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {address}: is the port in use?") from error

    def _start_metrics(self) -> tuple[WSGIServer, Any]:
        host, port = self.settings.metrics_host, self.settings.metrics_port
        try:
            return start_http_server(port, host, self.meter.registry)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}"
            ) from error


async def start_server(
    settings: ServerSettings, servicer: Callable[[Any, Meter], S], register: Register
) -> RunningServer[S]:
    """Start a service. `servicer` is its class, `register` the generated `add_..._to_server`.

    Raises ConfigurationError with what to change.
    """
    if not settings.models_dir.is_dir():
        raise ConfigurationError(f"models_dir {settings.models_dir} is not a directory")
    meter = Meter(settings.max_metered_clients)
    running = RunningServer(settings, servicer(settings, meter), load_keys(settings), meter)
    try:
        await running.start(register)
    except BaseException:
        await running.close()
        raise
    return running


def load_keys(settings: ServerSettings) -> ApiKeys:
    """The API keys that `settings` name. Raises ConfigurationError."""
    return ApiKeys.load(settings.api_keys_file, allow_anonymous=settings.allow_anonymous)


def channel_options(settings: ServerSettings) -> list[tuple[str, int]]:
    """gRPC core options: message sizes, keepalive for long calls, connection age."""
    return [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_send_message_length", settings.max_request_bytes),
        # Two services on one port would each get half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            round(1000 * settings.min_client_ping_s),
        ),
        ("grpc.max_connection_age_ms", round(1000 * settings.max_connection_age_s)),
        ("grpc.max_connection_age_grace_ms", 1000 * _CONNECTION_GRACE_S),
    ]


def server_credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    """TLS credentials; with `tls_client_ca`, clients must show a certificate too."""
    assert settings.tls_cert is not None
    assert settings.tls_key is not None
    try:
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
        authority = settings.tls_client_ca.read_bytes() if settings.tls_client_ca else None
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair], authority, authority is not None)
