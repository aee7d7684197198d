"""What a process is, as metrics: its build, its memory and CPU, when its certificate ends."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from cryptography import x509
from prometheus_client import Gauge, GCCollector, Info, ProcessCollector

from reaas_runtime.errors import ConfigurationError
from reaas_runtime.metering import Meter
from reaas_runtime.settings import ServerSettings


def show_facts(meter: Meter, service: str, settings: ServerSettings) -> None:
    """Add them to the service's registry. Raises ConfigurationError for a bad certificate."""
    registry = meter.registry
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    build = {"service": service, "version": version("reaas"), "python": platform.python_version()}
    Info("reaas_build", "What runs here.", registry=registry).info(build)
    if settings.tls_cert is not None:
        expiry = Gauge(
            "reaas_tls_certificate_expiry_timestamp_seconds",
            "When the served certificate ends.",
            registry=registry,
        )
        expiry.set(expiry_of(settings.tls_cert))


def expiry_of(certificate: Path) -> float:
    """Unix time at which a certificate (PEM, the first of a chain) ends."""
    try:
        read = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"tls_cert {certificate} cannot be read: {error}") from error
    return read[0].not_valid_after_utc.timestamp()
