"""Real services on loopback ports for tests, in this process or as processes of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from google.rpc import error_details_pb2
from grpc.aio import AioRpcError
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families
from reaas.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server
from reaas_encoder import EncoderServicer, EncoderSettings
from reaas_runtime import RunningServer, start_server


@asynccontextmanager
async def encoder_server(models_dir: Path, **settings: Any) -> AsyncIterator[RunningServer[Any]]:
    """An encoder service in this process, ready, on ports of its own; anonymous by default."""
    chosen = EncoderSettings(**defaults(models_dir) | settings)
    async with running(chosen, EncoderServicer) as server:
        yield server


def defaults(models_dir: Path) -> dict[str, Any]:
    """Settings of a service in a test: ports of its own, anonymous, quick to look and to end."""
    return {
        "models_dir": models_dir,
        "port": 0,
        "metrics_port": 0,
        "allow_anonymous": True,
        "workers": 2,
        "model_poll_s": 0.05,
        "grace_seconds": 5.0,
    }


@asynccontextmanager
async def running(
    settings: Any, servicer: Any, register: Any = add_EncoderServiceServicer_to_server
) -> AsyncIterator[RunningServer[Any]]:
    """`servicer` (by default an EncoderService) with `settings`, ready; stopped at the end."""
    server = await start_server(settings, servicer, register)
    try:
        async with asyncio.timeout(120):
            await server.wait_ready()
        yield server
    finally:
        await server.drain(0.0)


@contextmanager
def encoder_process(models_dir: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m reaas_encoder` as a process with JSON logs on stderr; killed at the end."""
    command = [sys.executable, "-m", "reaas_encoder", "--models-dir", str(models_dir)]
    command += ["--allow-anonymous", "--metrics-port", "0", "--workers", "2", *flags]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("REAAS_")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def scrape(server: RunningServer[Any]) -> dict[str, float]:
    """The live Prometheus endpoint: 'name{label=value,...}' (labels sorted) -> value."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    text = await asyncio.to_thread(lambda: urlopen(url).read().decode())
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            samples[f"{sample.name}{{{labels}}}"] = sample.value
    return samples


def error_info(error: AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo that every deliberate error carries."""
    return next(d for d in details(error) if isinstance(d, error_details_pb2.ErrorInfo))


def details(error: AioRpcError) -> list[Any]:
    """All google.rpc details of an error."""
    status = rpc_status.from_call(error)
    assert status is not None, f"no details: {error!r}"
    kinds = (
        error_details_pb2.ErrorInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.RetryInfo,
    )
    found = []
    for packed in status.details:
        for kind in kinds:
            if packed.Is(kind.DESCRIPTOR):
                message = kind()
                packed.Unpack(message)
                found.append(message)
    return found
