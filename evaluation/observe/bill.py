"""Bills from what Prometheus scraped, exact over restarts, and equal to the clients' ledgers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reaas import Ledger, LedgerKey, Usage
from rich.table import Table

from evaluation.observe.monitoring import INTERVAL_S, Prometheus, Series

_GB = 1e9
_PATIENCE_S = 15.0
_USAGE = {
    "queries": "reaas_queries_total",
    "request_bytes": "reaas_request_bytes_total",
    "response_bytes": "reaas_response_bytes_total",
}
Totals = dict[tuple[str, ...], float]


class BillError(Exception):
    """What Prometheus has is not what a client's ledger says."""


@dataclass(frozen=True)
class Line:
    """What one client is billed, in the currency of prices.yml."""

    client: str
    scheme: str
    usage: Usage
    compute_seconds: float
    cost: float
    certificates: float
    certifying: float
    """The part of `cost` that certificates took: test time."""
    as_seaas: float | None
    """What the same certificates would have cost as SEaaS; None: they were SEaaS, or there are
    none."""


def totals(prometheus: Prometheus, metric: str, labels: tuple[str, ...], seconds: float) -> Totals:
    """A counter summed over processes, by `labels`, from the raw samples of the last `seconds`.

    Exact where each process was scraped after its last query: a process counts from 0 and each has
    a start time of its own, so the last sample of every process is what it counted. `increase`
    would extrapolate, and would miss what was counted before the first scrape.
    """
    window = f"[{max(1, round(seconds))}s]"
    counted = prometheus.instant(f"{metric}{window}")
    # Asked for afterwards: a scrape in between must not leave a count without its process.
    lifetimes = _lifetimes(prometheus.instant(f"process_start_time_seconds{window}"))
    summed: Totals = defaultdict(float)
    for series in counted:
        born = lifetimes[_process(series)]
        of_process = {born[at]: value for at, value in series.points}
        key = tuple(series.labels[label] for label in labels)
        summed[key] += sum(of_process.values())
    return dict(summed)


def _process(series: Series) -> tuple[str, str]:
    return series.labels["job"], series.labels["instance"]


def _lifetimes(starts: Iterable[Series]) -> dict[tuple[str, str], dict[float, float]]:
    """For each target: time of a scrape -> start time of the process that answered it."""
    return {_process(series): dict(series.points) for series in starts}


def metered(prometheus: Prometheus, seconds: float) -> dict[str, dict[LedgerKey, Usage]]:
    """Queries and bytes of each client, as the services metered them."""
    labels = ("client", "api", "scheme", "phase", "model")
    counts: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for field, metric in _USAGE.items():
        for key, value in totals(prometheus, metric, labels, seconds).items():
            counts[key][field] = round(value)
    accounts: dict[str, dict[LedgerKey, Usage]] = defaultdict(dict)
    for (client, *rest), count in counts.items():
        if any(count.values()):
            accounts[client][LedgerKey(*rest)] = Usage(**count)
    return dict(accounts)


def reconcile(prometheus: Prometheus, ledgers: Mapping[str, Ledger], seconds: float) -> None:
    """Returns when Prometheus has, for each client, exactly its ledger. Raises BillError."""
    deadline = time.monotonic() + _PATIENCE_S
    booked = {client: ledger.entries() for client, ledger in ledgers.items()}
    while (found := metered(prometheus, seconds)) != booked:
        if time.monotonic() > deadline:
            raise BillError(_difference(booked, found))
        time.sleep(INTERVAL_S)


def _difference(
    booked: Mapping[str, Mapping[LedgerKey, Usage]], found: Mapping[str, Mapping[LedgerKey, Usage]]
) -> str:
    for client in sorted({*booked, *found}):
        ours, theirs = booked.get(client, {}), found.get(client, {})
        for key in sorted({*ours, *theirs}):
            if ours.get(key) != theirs.get(key):
                return (
                    f"client {client!r}, {key}: its ledger has {ours.get(key)}, "
                    f"Prometheus has {theirs.get(key)}"
                )
    return "no difference"


def lines(prometheus: Prometheus, seconds: float) -> list[Line]:
    """A bill for each client and scheme, at the prices of the price list."""
    prices = _Prices.read(prometheus)
    compute = totals(
        prometheus, "reaas_compute_seconds_total", ("client", "api", "scheme", "phase"), seconds
    )
    draws = totals(prometheus, "reaas_declared_draws_total", ("client", "scheme"), seconds)
    declared = totals(
        prometheus, "reaas_declared_certificates_total", ("client", "scheme"), seconds
    )
    parts: dict[tuple[str, str], list[_Part]] = defaultdict(list)
    for client, account in metered(prometheus, seconds).items():
        for key, usage in account.items():
            spent = compute.get((client, key.api, key.scheme, key.phase), 0.0)
            parts[client, key.scheme].append(_Part(key, usage, spent, prices))
    return [
        _line(owner, own, draws.get(owner, 0.0), declared.get(owner, 0.0), prices)
        for owner, own in sorted(parts.items())
    ]


@dataclass(frozen=True)
class _Prices:
    query: Mapping[str, float]
    byte_in: float
    byte_out: float
    compute_second: float
    draws: float
    """Queries of a certificate as SEaaS, where the client declares none."""

    @classmethod
    def read(cls, prometheus: Prometheus) -> _Prices:
        """The price list as the rules have it."""
        query = prometheus.instant("reaas:price:per_1000_queries / 1000")
        gb = {
            series.labels["direction"]: series.last
            for series in prometheus.instant("reaas:price:per_gb")
        }
        (compute,) = prometheus.instant("reaas:price:per_compute_second")
        (draws,) = prometheus.instant("reaas:counterfactual:default_draws")
        return cls(
            {series.labels["api"]: series.last for series in query},
            gb["in"] / _GB,
            gb["out"] / _GB,
            compute.last,
            draws.last,
        )


@dataclass(frozen=True)
class _Part:
    key: LedgerKey
    usage: Usage
    compute_seconds: float
    prices: _Prices

    @property
    def cost(self) -> float:
        prices, usage = self.prices, self.usage
        return (
            usage.queries * prices.query[self.key.api]
            + usage.request_bytes * prices.byte_in
            + usage.response_bytes * prices.byte_out
            + self.compute_seconds * prices.compute_second
        )


def _line(
    owner: tuple[str, str], parts: list[_Part], draws: float, declared: float, prices: _Prices
) -> Line:
    client, scheme = owner
    test = [part for part in parts if part.key.phase == "test"]
    features = [part for part in test if part.key.api == "feature"]
    radii = sum(part.usage.queries for part in test if part.key.api == "f2iperturb")
    certificates = declared if scheme == "seaas" else float(radii)
    as_seaas = None
    if scheme == "reaas" and radii and features:
        one = sum(part.cost for part in features) / sum(part.usage.queries for part in features)
        as_seaas = certificates * (draws / declared if declared else prices.draws) * one
    return Line(
        client,
        scheme,
        sum((part.usage for part in parts), Usage()),
        sum(part.compute_seconds for part in parts),
        sum(part.cost for part in parts),
        certificates,
        sum(part.cost for part in test),
        as_seaas,
    )


def table(bills: Iterable[Line]) -> Table:
    """For people."""
    made = Table(title="Bill per client, in the currency of prices.yml")
    for heading in ("client", "scheme"):
        made.add_column(heading)
    for heading in (
        "queries", "bytes in", "bytes out", "compute s", "cost", "certificates",
        "per 1,000 certificates", "as SEaaS",
    ):  # fmt: skip
        made.add_column(heading, justify="right")
    for line in bills:
        usage, count = line.usage, line.certificates
        made.add_row(
            line.client,
            line.scheme,
            f"{usage.queries:,}",
            f"{usage.request_bytes:,}",
            f"{usage.response_bytes:,}",
            f"{line.compute_seconds:.2f}",
            f"{line.cost:.5f}",
            f"{count:g}" if count else "-",
            f"{1000 * line.certifying / count:.4f}" if count else "-",
            "-" if line.as_seaas is None else f"{line.as_seaas / line.certifying:.0f} x",
        )
    return made
