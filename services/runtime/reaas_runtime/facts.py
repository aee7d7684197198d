"""What a process is, as metrics: its build, its memory and CPU, when its certificate ends."""

from __future__ import annotations

import platform
from importlib.metadata import version

from prometheus_client import Gauge, GCCollector, Info, ProcessCollector

from reaas_runtime.metering import Meter
from reaas_runtime.tls import Certificates


def show_facts(meter: Meter, service: str, certificates: Certificates | None) -> None:
    """Add them to the service's registry."""
    registry = meter.registry
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    build = {"service": service, "version": version("reaas"), "python": platform.python_version()}
    Info("reaas_build", "What runs here.", registry=registry).info(build)
    if certificates is not None:
        expiry = Gauge(
            "reaas_tls_certificate_expiry_timestamp_seconds",
            "When the served certificate ends.",
            registry=registry,
        )
        expiry.set_function(lambda: certificates.expiry)
