"""A running service: gRPC server, health, reflection, metrics endpoint, model watcher, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import structlog
from grpc_health.v1 import health

from reaas_runtime.connections import Connections, most_connections
from reaas_runtime.errors import ConfigurationError
from reaas_runtime.facts import show_facts
from reaas_runtime.health import Health
from reaas_runtime.identity import ApiKeys
from reaas_runtime.interceptor import CallInterceptor
from reaas_runtime.key_watch import KeyWatch
from reaas_runtime.listener import channel_options, join, listen, make_server
from reaas_runtime.metering import Meter
from reaas_runtime.metrics_server import MetricsServer
from reaas_runtime.reflection import add_reflection
from reaas_runtime.servicer import Servicer
from reaas_runtime.settings import ServerSettings
from reaas_runtime.supervision import Background
from reaas_runtime.tls import Certificates, ClientCertificates

S = TypeVar("S", bound=Servicer)
Register = Callable[[Any, grpc.aio.Server], None]

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
        self._certificates = Certificates(settings) if settings.tls else None
        self._client_certificates = ClientCertificates(settings)
        self._connections: Connections | None = None
        self._interceptor = CallInterceptor(keys, meter, settings, self._admit_peer)
        self._take_keys(keys)
        meter.watch_quotas(self._interceptor.quotas.used)
        settings = settings.model_copy(
            update={"max_connections": most_connections(settings.max_connections)}
        )
        self._server = make_server(channel_options(settings), [self._interceptor])
        self.health = Health(servicer.descriptor.full_name, settings)
        self._metrics: MetricsServer | None = None
        self._key_watch: KeyWatch | None = None
        self._serving = False

    @property
    def address(self) -> str:
        """host:port that clients connect to."""
        return join(self.settings.host, self.port)

    async def start(self, register: Register) -> None:
        """Listen as NOT_SERVING and begin to load models; SERVING when the first one is warm."""
        name = self.servicer.descriptor.full_name
        register(self.servicer, self._server)
        self.health.add_to(self._server)
        if self.settings.reflection:
            add_reflection((name, health.SERVICE_NAME), self._server)
        await self.health.start()
        credentials = None if self._certificates is None else self._certificates.credentials()
        self.port = listen(self._server, self.settings.host, self.settings.port, credentials)
        show_facts(self.meter, name, self._certificates)
        self._start_metrics()
        await self.servicer.start()
        await self._server.start()
        self._watch()
        _log.info("listening", service=name, address=self.address, metrics_port=self.metrics_port)

    async def wait_ready(self) -> None:
        """Return when the service can answer, and says so."""
        while not self._serving:
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
        if self._key_watch is not None:
            self._key_watch.close()
        await self.background.close()
        await self.health.close()
        if self._connections is not None:
            self._connections.close()
        if self._metrics is not None:
            await asyncio.to_thread(self._metrics.close)
        self.servicer.close()

    async def fail(self) -> None:
        """Say NOT_SERVING at once, after a part of the service was lost; then cut off the rest."""
        await self.health.drain()
        await self.close()

    def _watch(self) -> None:
        """Look after everything that must not end by itself."""
        ports = frozenset({self.port, self.health.port} - {0})
        self._connections = Connections(ports, self.settings.max_connections_per_peer)
        self._interceptor.open_services.connections = self._connections
        self.background.start_thread("watcher of connections", self._connections.run)
        self.background.start("gRPC server", self._watch_server())
        self.background.start("port of the probes", self.health.wait_for_termination())
        self.background.start("watcher of models", self._watch_models())
        if self.settings.api_keys_file is not None:
            self._key_watch = self._watch_keys(self.settings.api_keys_file)

    def _admit_peer(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Let in the peer of a call with a key. Raises DomainError for its certificate."""
        self._client_certificates.admit(context)
        if self._connections is not None:
            self._connections.trust(context.peer())

    async def _watch_server(self) -> None:
        """Return when the server has ended; raise what ended it."""
        # With a timeout gRPC shields what it waits for: cancelling this must not disturb the stop.
        while await self._server.wait_for_termination(_LOOK_S):
            pass

    async def _watch_models(self) -> None:
        """Look for models again and again; a failure is logged and tried again."""
        while True:
            try:
                await asyncio.to_thread(self.servicer.refresh)
            except Exception:
                _log.exception("models could not be looked for")
            usable = self.servicer.usable
            await self.health.report(serving=usable)
            self._serving = usable
            await self.servicer.changed(self.settings.model_poll_s)

    def _watch_keys(self, file: Path) -> KeyWatch:
        """Looks at the key file from now on."""
        loop = asyncio.get_running_loop()

        def take(keys: ApiKeys) -> None:
            loop.call_soon_threadsafe(self._take_keys, keys)

        watch = KeyWatch(
            file,
            self._interceptor.keys,
            take,
            poll_s=self.settings.keys_poll_s,
            allow_anonymous=self.settings.allow_anonymous,
        )
        self.meter.watch_keys(watch.stale_seconds)
        self.background.start_thread("watcher of keys", watch.run)
        return watch

    def _take_keys(self, keys: ApiKeys) -> None:
        self._interceptor.keys = keys
        self._interceptor.quotas.allow(keys.limits)
        self.meter.know_clients(keys.client_ids)

    def _start_metrics(self) -> None:
        settings = self.settings
        self._metrics = MetricsServer(
            settings.metrics_host, settings.metrics_port, self.meter.registry
        )
        self.metrics_port = self._metrics.port
        self.background.start_thread("metrics endpoint", self._metrics.run)


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
