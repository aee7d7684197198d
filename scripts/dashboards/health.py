"""Service health: rate, errors, duration; batches, queues, saturation; what is served."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.panels import (
    About,
    Panel,
    Query,
    board,
    buckets,
    choice,
    number,
    rows,
    series,
    with_rows,
)

_CHOSEN = 'namespace=~"$namespace", job=~"$job"'


def health_dashboard() -> dashboard.Dashboard:
    """The dashboard `REaaS: service health`."""
    made = board(
        "reaas-health",
        "REaaS: service health",
        "Are the services up, fast and free of errors, and how near are they to their limits?",
        since="now-3h",
    )
    made = made.with_variable(choice("namespace", "Namespace", "reaas_build_info"))
    made = made.with_variable(choice("job", "Service", "reaas_build_info", "reaas-.*"))
    return with_rows(
        made,
        {
            "Now": _now(),
            "Calls": _calls(),
            "Queues and batches": _queues(),
            "Processes and models": _processes(),
        },
    )


def _now() -> list[Panel]:
    return [
        number(
            About("Replicas up", "Processes that answer scrapes.", "none", 0),
            f"sum(up{{{_CHOSEN}}})",
        ),
        number(
            About("Replicas down", "Known, but not answering.", "none", 0),
            f"count(up{{{_CHOSEN}}} == 0) or vector(0)",
        ),
        number(
            About("Calls", "Calls ended a second, all methods.", "reqps", 2),
            f"sum(reaas:grpc_calls:rate5m{{{_CHOSEN}}})",
        ),
        number(
            About(
                "Errors", "Share of calls that failed by the service's own fault.", "percentunit", 2
            ),
            f"max(reaas:grpc_errors:ratio5m{{{_CHOSEN}}})",
        ),
    ]


def _calls() -> list[Panel]:
    return [
        series(
            About("Calls by method and code", "Rate of calls as they ended.", "reqps"),
            Query(
                f"sum by (grpc_method, grpc_code) (reaas:grpc_calls:rate5m{{{_CHOSEN}}})",
                "{{grpc_method}} {{grpc_code}}",
            ),
            stacked=True,
        ),
        series(
            About(
                "Errors by method",
                "Share of calls that ended in INTERNAL, UNKNOWN, UNAVAILABLE, DATA_LOSS or "
                "DEADLINE_EXCEEDED.",
                "percentunit",
            ),
            Query(
                f"max by (grpc_method) (reaas:grpc_errors:ratio5m{{{_CHOSEN}}})",
                "{{grpc_method}}",
            ),
        ),
        series(
            About("Time of a call", "Median and the slowest 1%.", "s"),
            Query(
                f"max by (grpc_method) (reaas:grpc_seconds:p50{{{_CHOSEN}}})", "{{grpc_method}} p50"
            ),
            Query(
                f"max by (grpc_method) (reaas:grpc_seconds:p99{{{_CHOSEN}}})", "{{grpc_method}} p99"
            ),
        ),
        series(
            About(
                "Refusals by reason",
                "Calls refused a second: bad requests, quotas, full queues.",
                "reqps",
            ),
            Query(
                f"sum by (reason) (rate(reaas_refused_total{{{_CHOSEN}}}[$__rate_interval])) > 0",
                "{{reason}}",
            ),
        ),
    ]


def _queues() -> list[Panel]:
    return [
        series(
            About("Queue", "Inputs waiting or in work, as a share of the limit.", "percentunit"),
            Query(
                f"max by (job, instance) (reaas:pending_inputs:ratio{{{_CHOSEN}}})",
                "{{job}} {{instance}}",
            ),
        ),
        series(
            About(
                "Work dropped in the queue",
                "Its caller had gone, or its deadline had passed.",
                "ops",
            ),
            Query(
                "sum by (job, why) "
                f"(rate(reaas_skipped_jobs_total{{{_CHOSEN}}}[$__rate_interval]))",
                "{{job}}: {{why}}",
            ),
        ),
        buckets(
            About("Inputs in one message", "Batches as clients send them."),
            f"sum by (le) (increase(reaas_batch_inputs_bucket{{{_CHOSEN}}}[$__rate_interval]))",
        ),
        series(
            About(
                "Quota used",
                "Clients with a quota: share of the window's queries that is used.",
                "percentunit",
            ),
            Query(f"max by (client) (reaas_quota_used_ratio{{{_CHOSEN}}})", "{{client}}"),
        ),
    ]


def _processes() -> list[Panel]:
    return [
        series(
            About("CPU", "Cores used by each process.", "none"),
            Query(
                f"rate(process_cpu_seconds_total{{{_CHOSEN}}}[$__rate_interval])",
                "{{job}} {{instance}}",
            ),
        ),
        series(
            About("Memory", "Resident memory of each process.", "bytes"),
            Query(f"process_resident_memory_bytes{{{_CHOSEN}}}", "{{job}} {{instance}}"),
        ),
        rows(
            About("Models served", "Replicas that serve each version; both services should."),
            {
                "replicas": Query(
                    f"count by (job, model, version, digest) (reaas_model_info{{{_CHOSEN}}})"
                )
            },
            width=16,
        ),
        rows(
            About("Builds", "Processes of each version."),
            {"processes": Query(f"count by (service, version) (reaas_build_info{{{_CHOSEN}}})")},
            width=8,
        ),
    ]
