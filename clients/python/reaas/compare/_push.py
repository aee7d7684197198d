"""What a client chooses to tell its operator: how much it certified on its own test set.

Only clients know the labels, so no service can measure this. Sent to a Prometheus Pushgateway.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from reaas.compare._report import Report

JOB = "reaas-reported"
_LABELS = ("client", "model", "scheme", "classifier")
_TIMEOUT_S = 10.0


class PushError(Exception):
    """The gateway was not reached, or refused."""


@dataclass(frozen=True)
class Quality:
    """What one classifier achieved on its owner's test set."""

    scheme: str
    """`reaas` or `seaas`."""
    classifier: str
    """The way to certify, for example `BC/CROWN`."""
    acr: float
    """Average certified radius, L2 on pixels in [0,1]; 0 where the prediction is wrong."""
    accuracy: float
    """Share of inputs classified correctly; abstaining is wrong."""


def qualities(report: Report) -> list[Quality]:
    """Those of every row that could be measured."""
    return [
        Quality(row.scheme, row.name.partition("/")[2], row.acr, row.accuracy)
        for row in report.rows
        if row.acr is not None and row.accuracy is not None
    ]


def push(gateway: str, client_id: str, model: str, measured: list[Quality]) -> None:
    """Replaces what `client_id` reported about `model` before. `gateway`: its URL.

    Raises PushError.
    """
    registry = CollectorRegistry()
    acr = Gauge(
        "reaas_reported_acr",
        "Average certified radius on a client's own test set, L2, pixels in [0,1].",
        _LABELS,
        registry=registry,
    )
    accuracy = Gauge(
        "reaas_reported_accuracy",
        "Share of a client's own test set classified correctly.",
        _LABELS,
        registry=registry,
    )
    for quality in measured:
        labels = (client_id, model, quality.scheme, quality.classifier)
        acr.labels(*labels).set(quality.acr)
        accuracy.labels(*labels).set(quality.accuracy)
    group = {"client": client_id, "model": model}
    try:
        push_to_gateway(gateway, JOB, registry, grouping_key=group, timeout=_TIMEOUT_S)
    except OSError as error:
        raise PushError(f"nothing reported: the Pushgateway at {gateway}: {error}") from error
