"""The table of docs/operations.md is what live services expose."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import trustme
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from evaluation.observe.fleet import Fleet
from evaluation.observe.replay import PHONE
from tests.support.servers import encoder_server

GUIDE = Path(__file__).resolve().parents[2] / "docs/operations.md"
_ROW = re.compile(r"\| `(?P<name>\w+)` \| (?P<type>\w+) \| (?P<labels>[\w, ]*) ?\|")
ONLY_WITH_TLS = "reaas_tls_certificate_expiry_timestamp_seconds"
# On histograms and their like, by the text format itself.
_FORMAT = {"le", "quantile"}
Described = dict[str, tuple[str, frozenset[str]]]


def documented() -> Described:
    """Name -> type and labels, of the guide."""
    section = GUIDE.read_text(encoding="utf-8").partition("## Metrics")[2].partition("\n## ")[0]
    return {
        row["name"]: (row["type"], frozenset(re.findall(r"\w+", row["labels"])))
        for row in _ROW.finditer(section)
    }


def exposed(text: str) -> Described:
    """Name -> type and labels, of an endpoint; what Python's client adds by itself left out."""
    return described(text_string_to_metric_families(text))


def described(families: Iterable[Metric]) -> Described:
    found: Described = {}
    for family in families:
        if family.name.startswith(("process_", "python_")) or not family.samples:
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels}
        found[name] = (family.type, frozenset(labels - _FORMAT))
    return found


def test_the_guide_names_every_metric_with_its_type_and_labels(fleet: Fleet) -> None:
    images = np.zeros((2, 8, 8, 3), np.float32)
    with fleet.connect(PHONE) as client:
        features = client.encode(images, "tiny")
        client.encode(images, "tiny")  # The other replica.
        client.perturb(images, np.ones(2), features.model)
    found: Described = {}
    for service in fleet.services:
        with urlopen(service.metrics_url) as reply:
            found |= exposed(reply.read().decode())
    table = documented()
    table.pop(ONLY_WITH_TLS)
    assert found == table


async def test_the_certificates_end_is_shown_with_tls(models_dir: Path, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(chain)
    certificate.private_key_pem.write_to_path(key)
    async with encoder_server(models_dir, tls=True, tls_cert=chain, tls_key=key) as server:
        text = urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics").read().decode()
    assert exposed(text)[ONLY_WITH_TLS] == documented()[ONLY_WITH_TLS]


@pytest.mark.parametrize("prefix", ["process_resident_memory_bytes", "python_gc_"])
def test_processes_are_shown(fleet: Fleet, prefix: str) -> None:
    for service in fleet.services:
        with urlopen(service.metrics_url) as reply:
            assert f"\n{prefix}" in reply.read().decode()
