"""The Prometheus endpoint: few scrapes at a time, each of them short."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from reaas_runtime.errors import ConfigurationError

# Prometheus, its twin, an agent, somebody with curl; of one address half of them.
_SCRAPES = 8
# A request is a line and some headers; its answer some hundred kilobytes.
_SECONDS = 5.0


class _Handler(WSGIRequestHandler):
    """Reads and answers within seconds, and says nothing of it."""

    timeout = _SECONDS
    protocol_version = "HTTP/1.0"

    def handle(self) -> None:
        """One request; whoever is slow, or gone, is forgotten."""
        cut = threading.Timer(2 * _SECONDS, self._cut)
        cut.daemon = True
        cut.start()
        try:
            super().handle()
        except OSError:
            return
        finally:
            cut.cancel()

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no events."""

    def _cut(self) -> None:
        """A byte a second would pass the socket's timeout for ever."""
        self.server.shutdown_request(self.request)


class _Server(ThreadingMixIn, WSGIServer):
    """At most `_SCRAPES` requests at a time; the others are closed at once."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, *arguments: Any) -> None:
        self._scrapes: Counter[str] = Counter()
        self._lock = threading.Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, if one is free."""
        host = client_address[0]
        with self._lock:
            free = self._scrapes.total() < _SCRAPES and self._scrapes[host] < _SCRAPES // 2
            self._scrapes[host] += free
        if free:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """As the base class, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._scrapes -= Counter({client_address[0]: 1})

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A peer that went away is no error of the service."""


class _V6Server(_Server):
    address_family = socket.AF_INET6


class MetricsServer:
    """Answers GET /metrics on an address of its own. Raises ConfigurationError if it is taken."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        application = make_wsgi_app(registry)
        bare = host.strip("[]")
        server = _V6Server if ":" in bare else _Server
        try:
            self._server = make_server(bare, port, application, server, _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"cannot serve metrics on {host}:{port}: {error.strerror}"
            ) from error
        self.port: int = self._server.server_port

    def run(self) -> None:
        """Serve until `close`: a thread's work."""
        self._server.serve_forever(poll_interval=0.1)

    def close(self) -> None:
        """End `run` and free the port; blocking."""
        self._server.shutdown()
        self._server.server_close()
