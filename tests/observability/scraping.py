"""What the endpoints of a fleet say, added up."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from evaluation.observe.fleet import Fleet


def total(fleet: Fleet, name: str, **labels: str) -> float:
    """Sum of a metric's samples with these labels, over all services."""
    summed = 0.0
    for service in fleet.services:
        with urlopen(service.metrics_url) as reply:
            text = reply.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    summed += sample.value
    return summed
