"""Cost per client: who is billed what, and what the same work would have cost as SEaaS."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.panels import (
    About,
    Panel,
    Query,
    bars,
    board,
    choice,
    number,
    rows,
    series,
    with_rows,
)

_CHOSEN = 'namespace=~"$namespace", client=~"$client", scheme=~"$scheme", model=~"$model"'
_CURRENCY = "In the currency of the price list (prices.yml)."


def cost_dashboard() -> dashboard.Dashboard:
    """The dashboard `REaaS: cost per client`."""
    made = board(
        "reaas-cost",
        "REaaS: cost per client",
        "The bill of each client, what it is made of, and what the same certificates would have "
        "cost as SEaaS, where noise has to travel in the image.",
        since="now-24h",
    )
    for name, label in _VARIABLES.items():
        made = made.with_variable(choice(name, label, "reaas_queries_total"))
    return with_rows(
        made,
        {
            "The bill over the time range above": _bill(),
            "REaaS against SEaaS": _comparison(),
            "Over time": _over_time(),
        },
    )


_VARIABLES = {
    "namespace": "Namespace",
    "client": "Client",
    "scheme": "Scheme",
    "model": "Model",
}


def _used(metric: str, by: str) -> str:
    return f"sum by ({by}) (increase({metric}{{{_CHOSEN}}}[$__range]))"


def _active(expr: str) -> str:
    """Only who uses something: every known client has counters, at 0."""
    return f"{expr} > 0"


def bill(by: str) -> str:
    """PromQL: price of all that was used in the time range, summed by the labels `by`."""
    queries = (
        f"sum by ({by}) (increase(reaas_queries_total{{{_CHOSEN}}}[$__range])"
        " * on (api) group_left () reaas:price:per_1000_queries / 1000)"
    )
    received = _priced("reaas_request_bytes_total", by, 'reaas:price:per_gb{direction="in"} / 1e9')
    sent = _priced("reaas_response_bytes_total", by, 'reaas:price:per_gb{direction="out"} / 1e9')
    compute = _priced("reaas_compute_seconds_total", by, "reaas:price:per_compute_second")
    return f"{queries} + {received} + {sent} + {compute}"


def _priced(metric: str, by: str, price: str) -> str:
    return f"{_used(metric, by)} * on () group_left () ({price})"


def _bill() -> list[Panel]:
    return [
        number(
            About("Total", f"All chosen clients together. {_CURRENCY}", decimals=4),
            f"sum({bill('client')})",
        ),
        number(
            About("Queries", "Inputs answered, however many shared a message.", decimals=0),
            f"sum({_used('reaas_queries_total', 'client')})",
        ),
        number(
            About("Bytes in", "Requests as they were on the wire, frames included.", "decbytes"),
            f"sum({_used('reaas_request_bytes_total', 'client')})",
        ),
        number(
            About("Bytes out", "Replies as they were on the wire, frames included.", "decbytes"),
            f"sum({_used('reaas_response_bytes_total', 'client')})",
        ),
        rows(
            About(
                "Bill per client",
                f"What each client used and what it costs. {_CURRENCY} Numbers are estimates at "
                "the ends of the time range, where Prometheus extrapolates.",
            ),
            {
                name: Query(_active(expr))
                for name, expr in {
                    "cost": f"({bill('client, scheme')})",
                    "queries": _used("reaas_queries_total", "client, scheme"),
                    "bytes in": _used("reaas_request_bytes_total", "client, scheme"),
                    "bytes out": _used("reaas_response_bytes_total", "client, scheme"),
                    "compute seconds": _used("reaas_compute_seconds_total", "client, scheme"),
                }.items()
            },
            width=16,
            units={"bytes in": "decbytes", "bytes out": "decbytes", "compute seconds": "s"},
        ),
        bars(
            About("Top clients", f"The ten dearest. {_CURRENCY}", decimals=4),
            Query(_active(f"topk(10, {bill('client')})"), "{{client}}"),
            width=8,
        ),
    ]


def _comparison() -> list[Panel]:
    reaas = _CHOSEN.replace('scheme=~"$scheme"', 'scheme="reaas"')
    chosen = f'{reaas}, phase="test"'
    # Sums over time, as both are recorded at the same moments: a mean would leave out idle times.
    actual = f"sum(sum_over_time(reaas:cost:per_hour{{{chosen}}}[$__range]))"
    other = f"sum(sum_over_time(reaas:seaas_cost:per_hour{{{chosen}}}[$__range]))"
    certifying = f'sum_over_time(reaas:cost:per_hour{{{_CHOSEN}, phase="test"}}[$__range])'
    certified = f"sum_over_time(reaas:certificates:rate5m{{{_CHOSEN}}}[$__range])"
    return [
        number(
            About(
                "SEaaS would cost",
                "How many times dearer the same certificates would have been as SEaaS: each test "
                "input sent as many times as its client draws noise (its own number where it "
                "declares one, else the price list's), at the client's own cost of a feature.",
                "none",
                1,
            ),
            f"{other} / {actual}",
            width=8,
        ),
        bars(
            About(
                "Cost of one certified input",
                f"Test-time cost divided by certificates. {_CURRENCY} SEaaS clients count only "
                "where they declare their draws.",
            ),
            Query(
                f"sum by (client, scheme) ({certifying}) / 3600 "
                f"/ (sum by (client, scheme) ({certified}) > 0)",
                "{{client}} ({{scheme}})",
            ),
            width=16,
        ),
        series(
            About("Cost per hour, by scheme", f"What clients pay now. {_CURRENCY}"),
            Query(f"sum by (scheme) (reaas:cost:per_hour{{{_CHOSEN}}})", "{{scheme}}"),
            stacked=True,
        ),
        series(
            About(
                "REaaS clients: what they pay, and what SEaaS would take",
                f"Test time only. {_CURRENCY} The gap is what REaaS saves.",
            ),
            Query(_active(f"sum by (client) (reaas:cost:per_hour{{{chosen}}})"), "{{client}} pays"),
            Query(
                f"sum by (client) (reaas:seaas_cost:per_hour{{{chosen}}})", "{{client}} as SEaaS"
            ),
        ),
    ]


def _over_time() -> list[Panel]:
    return [
        series(
            About("Cost per hour, by client", f"{_CURRENCY}"),
            Query(_active(f"sum by (client) (reaas:cost:per_hour{{{_CHOSEN}}})"), "{{client}}"),
            stacked=True,
        ),
        series(
            About("Cost per hour, by item", f"Queries, bytes each way, compute. {_CURRENCY}"),
            Query(f"sum by (item) (reaas:cost:per_hour{{{_CHOSEN}}})", "{{item}}"),
            stacked=True,
        ),
        series(
            About("Queries", "Inputs a second, by client and API.", "reqps"),
            Query(
                _active(f"sum by (client, api) (reaas:queries:rate5m{{{_CHOSEN}}})"),
                "{{client}} {{api}}",
            ),
        ),
        series(
            About("Bytes", "Each way, by client.", "Bps"),
            Query(
                _active(f"sum by (client) (reaas:request_bytes:rate5m{{{_CHOSEN}}})"),
                "{{client}} in",
            ),
            Query(
                _active(f"sum by (client) (reaas:response_bytes:rate5m{{{_CHOSEN}}})"),
                "{{client}} out",
            ),
        ),
    ]
