"""A service as a process: flags, logs, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import prometheus_client
import structlog
from pydantic import ValidationError
from pydantic_settings import CliApp
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.loading import LOAD
from reaas_runtime.logs import configure_logs, watch_loop
from reaas_runtime.metering import Meter
from reaas_runtime.server import Register, start_server
from reaas_runtime.servicer import Servicer
from reaas_runtime.settings import ServerSettings

Settings = TypeVar("Settings", bound=ServerSettings)
# After the grace, for closing ports and files.
_CLEANUP_S = 2.0

_log = structlog.get_logger("reaas.server")


def run_service(
    settings_type: type[Settings],
    servicer: Callable[[Any, Meter], Servicer],
    register: Register,
    arguments: list[str] | None = None,
) -> int:
    """Run a service until it is told to stop; returns the exit status.

    Status 1: a part of it ended unasked (see `supervision`), and it has to be started again.
    SIGTERM drains, SIGINT (Ctrl-C) stops without waiting for balancers, a second signal of either
    kind ends the process at once. A wrong setting is one readable line and status 2.
    """
    try:
        settings = CliApp.run(settings_type, cli_args=arguments)
        configure_logs(settings.log_format)
        # The time when a series began is a second series for each, and nobody plots it.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        # The worker pool is the parallelism: BLAS would start a thread for every core of the host.
        with threadpool_limits(limits=1, user_api="blas"):
            status = asyncio.run(_serve(settings, servicer, register))
        _leave_loads_behind(status)
        return status
    except ValidationError as error:
        for fault in error.errors():
            where = ".".join(map(str, fault["loc"])) or "settings"
            print(f"error: {where}: {fault['msg']}", file=sys.stderr)
        return 2
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


async def _serve(
    settings: ServerSettings,
    servicer: Callable[[Any, Meter], Servicer],
    register: Register,
) -> int:
    """Serve until a signal comes (0), or until a part of the service is lost (1)."""
    # C-core writes a line for whatever a peer does wrong; an operator may ask for them.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    stop: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def on_signal(number: signal.Signals) -> None:
        if stop.done():
            _log.warning("second signal: ending at once", signal=number.name)
            os._exit(128 + number)
        stop.set_result(number)

    watch_loop(asyncio.get_running_loop())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    running = await start_server(settings, servicer, register)
    lost = asyncio.create_task(running.background.lost())
    ends: set[asyncio.Future[Any]] = {stop, lost}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if not stop.done():
        _log.critical("ending: a part of the service is lost", part=lost.result().name)
        _end_within(settings.grace_seconds, status=1)
        await running.fail()
        return 1
    lost.cancel()
    waiting = 0.0 if stop.result() is signal.SIGINT else settings.drain_seconds
    _end_within(waiting + settings.grace_seconds + _CLEANUP_S, status=0)
    await running.drain(waiting)
    return 0


def _leave_loads_behind(status: int) -> None:
    """End here and now where a model is still being loaded in code outside of Python.

    The interpreter would end that thread when it comes back, in the middle of C++ that aborts the
    process for it: status -6 instead of the one that is meant.
    """
    if any(thread.name.startswith(LOAD) for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _end_within(seconds: float, status: int) -> None:
    """End the process then, whatever a thread hangs in: a stopped volume must not keep it."""

    def end() -> None:
        _log.error("ending at once: work did not end in time", seconds=seconds)
        os._exit(status)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
