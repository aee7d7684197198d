"""The services' meters against the client's ledger, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server
from reaas import Ledger, LedgerKey, Usage
from reaas.compare import MeterMismatchError, Meters
from reaas.compare import _meters as meters_module

LABELS = ("client", "api", "scheme", "phase", "model")
KEY = LedgerKey("feature", "reaas", "test", "tiny")


class Endpoint:
    """A Prometheus endpoint with the counters of a REaaS service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = [
            Counter(f"reaas_{name}", name, LABELS, registry=self.registry)
            for name in ("queries", "request_bytes", "response_bytes")
        ]

    def charge(self, client: str, usage: Usage, key: LedgerKey = KEY) -> None:
        labels = (client, key.api, key.scheme, key.phase, key.model)
        amounts = (usage.queries, usage.request_bytes, usage.response_bytes)
        for counter, amount in zip(self._counters, amounts, strict=True):
            counter.labels(*labels).inc(amount)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def meters(endpoint: Endpoint) -> Iterator[Meters]:
    server, thread = start_http_server(0, addr="127.0.0.1", registry=endpoint.registry)
    yield Meters([f"http://127.0.0.1:{server.server_port}/metrics"])
    server.shutdown()
    server.server_close()
    thread.join()


def test_equal_accounts_are_the_metered_ones(endpoint: Endpoint, meters: Meters) -> None:
    endpoint.charge("mine", Usage(5, 50, 500))
    before = meters.read("mine")
    ledger = Ledger()
    for _ in range(2):
        endpoint.charge("mine", Usage(2, 200, 2000))
        ledger.add(KEY, Usage(2, 200, 2000))
    endpoint.charge("other-client", Usage(7, 7, 7))
    assert meters.reconcile(ledger, "mine", before) == {KEY: Usage(4, 400, 4000)}


@pytest.mark.parametrize("metered", [Usage(2, 200, 2000), Usage(3, 300, 3001), Usage(4, 300, 3000)])
def test_any_difference_fails_the_run(
    endpoint: Endpoint, meters: Meters, metered: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters_module, "_PATIENCE_S", 0.2)
    ledger = Ledger()
    ledger.add(KEY, Usage(3, 300, 3000))
    endpoint.charge("mine", metered)
    with pytest.raises(MeterMismatchError, match="queries=3"):
        meters.reconcile(ledger, "mine", {})


def test_without_endpoints_the_ledger_counts() -> None:
    ledger = Ledger()
    ledger.add(KEY, Usage(1, 2, 3))
    assert Meters(()).reconcile(ledger, "mine", {}) == {KEY: Usage(1, 2, 3)}


def test_lines_are_those_of_the_clients_asked_for(endpoint: Endpoint, meters: Meters) -> None:
    endpoint.charge("mine", Usage(1, 2, 3))
    endpoint.charge("mine-too", Usage(1, 2, 3))
    lines = meters.lines("reaas_queries_total", ["mine"])
    assert len(lines) == 1
    assert 'client="mine"' in lines[0]
    assert lines[0].endswith(" 1.0")


def test_other_urls_are_refused() -> None:
    with pytest.raises(ValueError, match="must begin with http"):
        Meters(["file:///etc/hosts"]).read("mine")
