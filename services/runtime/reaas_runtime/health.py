"""Alive, and able to answer: grpc.health.v1, beside the service and on a port of its own."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.settings import ServerSettings

LIVE = "reaas.live"
"""Name that is SERVING as long as the process answers, loading and draining included."""

_Status = health_pb2.HealthCheckResponse


class Health:
    """Answers for ``""`` and ``service`` whether it can take calls, for ``LIVE`` that it is alive.

    From state, never through the work queue. With ``health_port`` also in plain text there: the
    probes of Kubernetes speak no TLS.
    """

    def __init__(self, service: str, settings: ServerSettings) -> None:
        self.port = 0
        self._service, self._settings = service, settings
        self._answers = health.aio.HealthServicer()
        self._probes: grpc.aio.Server | None = None
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer on the service's own port."""
        health_pb2_grpc.add_HealthServicer_to_server(self._answers, server)

    async def start(self) -> None:
        """Alive, and not yet serving. Raises ConfigurationError where the port is taken."""
        await self._answers.set(LIVE, _Status.SERVING)
        await self.report(serving=False)
        if self._settings.health_port is None:
            return
        address = f"{self._settings.host}:{self._settings.health_port}"
        self._probes = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self.add_to(self._probes)
        try:
            self.port = self._probes.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {address}: is the port in use?") from error
        await self._probes.start()

    async def report(self, *, serving: bool) -> None:
        """Tell balancers whether to send calls; once draining, it stays at no."""
        status = _Status.SERVING if serving and not self._draining else _Status.NOT_SERVING
        for name in ("", self._service):
            await self._answers.set(name, status)

    async def drain(self) -> None:
        """NOT_SERVING for good."""
        self._draining = True
        await self.report(serving=False)

    async def close(self) -> None:
        """Free the port of the probes."""
        if self._probes is not None:
            await self._probes.stop(None)
