"""The services' meters, and the check that the client's own ledger agrees with them."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from reaas import Ledger, LedgerKey, Usage

Account = Mapping[LedgerKey, Usage]

_SAMPLES = {
    "reaas_queries_total": "queries",
    "reaas_request_bytes_total": "request_bytes",
    "reaas_response_bytes_total": "response_bytes",
}
# A service counts when it sends its answer; a scrape right after the last answer may be early.
_PATIENCE_S = 5.0
_SCRAPE_TIMEOUT_S = 10.0


class MeterMismatchError(Exception):
    """The services' meters and the client's ledger disagree; the comparison cannot be trusted."""


@dataclass(frozen=True)
class Meters:
    """The Prometheus endpoints of the services, for example `http://127.0.0.1:9101/metrics`."""

    urls: Sequence[str]

    def read(self, client_id: str) -> dict[LedgerKey, Usage]:
        """Queries and bytes of one client, summed over the endpoints, zeros left out."""
        counts: dict[LedgerKey, dict[str, int]] = {}
        for url in self.urls:
            for name, labels, value in _samples(url):
                if name in _SAMPLES and labels["client"] == client_id:
                    key = LedgerKey(*(labels[part] for part in ("api", "scheme", "phase", "model")))
                    count = counts.setdefault(key, {})
                    count[_SAMPLES[name]] = count.get(_SAMPLES[name], 0) + int(value)
        return {key: Usage(**count) for key, count in counts.items() if any(count.values())}

    def lines(self, metric: str, client_ids: Sequence[str]) -> list[str]:
        """The endpoints' lines of one metric about these clients, zeros left out; for people."""
        wanted = tuple(f'client="{client}"' for client in client_ids)
        return [
            line
            for url in self.urls
            for line in _scrape(url).splitlines()
            if line.startswith(metric + "{")
            and any(part in line for part in wanted)
            and not line.endswith(" 0.0")
        ]

    def reconcile(self, ledger: Ledger, client_id: str, before: Account) -> Account:
        """What the services metered for `client_id` since `before`; must equal `ledger`.

        Without endpoints the ledger alone counts. Raises MeterMismatchError, which names the first
        count that differs.
        """
        deadline = time.monotonic() + _PATIENCE_S
        booked = ledger.entries()
        if not self.urls:
            return booked
        while True:
            metered = _since(self.read(client_id), before)
            if metered == booked:
                return metered
            if time.monotonic() > deadline:
                raise MeterMismatchError(_difference(booked, metered, client_id))
            time.sleep(0.1)


def _scrape(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"metrics URL is {url!r}; it must begin with http:// or https://")
    with urllib.request.urlopen(url, timeout=_SCRAPE_TIMEOUT_S) as reply:
        return str(reply.read().decode())


def _samples(url: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(_scrape(url)):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _since(now: Account, before: Account) -> dict[LedgerKey, Usage]:
    """Counts that grew between two readings."""
    grown: dict[LedgerKey, Usage] = {}
    for key, usage in sorted(now.items()):
        old = before.get(key, Usage())
        if usage != old:
            grown[key] = Usage(
                usage.queries - old.queries,
                usage.request_bytes - old.request_bytes,
                usage.response_bytes - old.response_bytes,
            )
    return grown


def _difference(booked: Account, metered: Account, client_id: str) -> str:
    key = next(k for k in sorted({*booked, *metered}) if booked.get(k) != metered.get(k))
    return (
        f"client {client_id!r}, {key}: its ledger has {booked.get(key, Usage())}, "
        f"the services metered {metered.get(key, Usage())}"
    )
