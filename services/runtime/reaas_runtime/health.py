"""Alive, and able to answer: grpc.health.v1, beside the service and on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reaas_runtime.listener import bounded_options, listen, make_server
from reaas_runtime.settings import ServerSettings

LIVE = "reaas.live"
"""Name that is SERVING as long as the process answers, loading and draining included."""
# A name of a service, and what protobuf puts around it.
PROBE_BYTES = 4096
# Probes come one at a time; whoever opens more on their port means harm.
_PROBE_CONNECTIONS, _PROBE_STREAMS = 256, 16

_Status = health_pb2.HealthCheckResponse
Context = grpc.aio.ServicerContext[Any, Any]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers for ``""`` and ``service`` whether it can take calls, for ``LIVE`` that it is alive.

    From state, never through the work queue; nothing is kept for names that it does not know, and
    nobody who watches can hold up whoever reports. With ``health_port`` also in plain text there:
    the probes of Kubernetes speak no TLS.
    """

    def __init__(self, service: str, settings: ServerSettings) -> None:
        self.port = 0
        self._service, self._settings = service, settings
        self._answers = {LIVE: _Status.SERVING, "": _Status.NOT_SERVING}
        self._answers[service] = _Status.NOT_SERVING
        self._changed = asyncio.Event()
        self._probes: grpc.aio.Server | None = None
        self._draining = False

    def add_to(self, server: grpc.aio.Server) -> None:
        """Answer on the service's own port."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def start(self) -> None:
        """Alive, and not yet serving. Raises ConfigurationError where the port is taken."""
        if self._settings.health_port is None:
            return
        options = [
            *bounded_options(_PROBE_CONNECTIONS, _PROBE_STREAMS),
            ("grpc.max_receive_message_length", PROBE_BYTES),
        ]
        self._probes = make_server(options)
        self.add_to(self._probes)
        self.port = listen(self._probes, self._settings.host, self._settings.health_port)
        await self._probes.start()

    async def wait_for_termination(self) -> None:
        """Return when the port of the probes is gone; never where there is none."""
        if self._probes is None:
            await asyncio.Event().wait()
            return
        while await self._probes.wait_for_termination(60):
            pass

    async def report(self, *, serving: bool) -> None:
        """Tell balancers whether to send calls; once draining, it stays at no."""
        status = _Status.SERVING if serving and not self._draining else _Status.NOT_SERVING
        if self._answers[""] != status:
            self._answers[""] = self._answers[self._service] = status
            self._changed.set()
            self._changed = asyncio.Event()

    async def drain(self) -> None:
        """NOT_SERVING for good."""
        self._draining = True
        await self.report(serving=False)

    async def close(self) -> None:
        """Free the port of the probes."""
        if self._probes is not None:
            await self._probes.stop(None)

    async def Check(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """The status of a name now; NOT_FOUND for a name that this service does not have."""
        status = self._answers.get(request.service)
        if status is None:
            known = ", ".join(repr(name) for name in self._answers)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no such service; there are: {known}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of a name now, and whenever it changes."""
        last = None
        while True:
            changed = self._changed
            status = self._answers.get(request.service, _Status.SERVICE_UNKNOWN)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
                last = status
            await changed.wait()
