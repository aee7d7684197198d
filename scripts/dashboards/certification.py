"""Certification: how large the radii are, which bounds win, and what they take."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from scripts.dashboards.panels import (
    About,
    Panel,
    Query,
    bars,
    board,
    buckets,
    choice,
    number,
    series,
    with_rows,
)

_CHOSEN = 'namespace=~"$namespace", model=~"$model"'
_RADIUS = "L2 radius in the image, pixels in [0,1]."


def certification_dashboard() -> dashboard.Dashboard:
    """The dashboard `REaaS: certification`."""
    made = board(
        "reaas-certification",
        "REaaS: certification",
        "How far attackers may change clients' images without changing the label: the certified "
        "radii that F2I answers with, and what they take.",
        since="now-24h",
    )
    made = made.with_variable(choice("namespace", "Namespace", "reaas_f2i_answers_total"))
    made = made.with_variable(choice("model", "Model", "reaas_f2i_answers_total"))
    return with_rows(
        made, {"Radii": _radii(), "Bounds": _bounds(), "What clients report": _reported()}
    )


def _radius_quantile(share: float, by: str, window: str) -> str:
    used = f"sum by (le{by}) (increase(reaas_f2i_radius_bucket{{{_CHOSEN}}}[{window}]))"
    return f"histogram_quantile({share}, {used})"


def _radii() -> list[Panel]:
    answers = f"sum(increase(reaas_f2i_answers_total{{{_CHOSEN}}}[$__range]))"
    none = f'sum(increase(reaas_f2i_radius_bucket{{{_CHOSEN}, le="0.0"}}[$__range]))'
    return [
        number(About("Certificates", "Answers in the time range.", decimals=0), answers),
        number(
            About("Median radius", _RADIUS, "none", 3),
            _radius_quantile(0.5, "", "$__range"),
        ),
        number(
            About("Largest tenth", f"{_RADIUS} A tenth of the answers is above this.", "none", 3),
            _radius_quantile(0.9, "", "$__range"),
        ),
        number(
            About("Nothing certified", "Share of answers with radius 0.", "percentunit", 1),
            f"{none} / {answers}",
        ),
        buckets(
            About("Distribution of radii", _RADIUS, "none"),
            f"sum by (le) (increase(reaas_f2i_radius_bucket{{{_CHOSEN}}}[$__rate_interval]))",
        ),
        series(
            About("Median radius", f"{_RADIUS} By model and target (ball or margins).", "none"),
            Query(
                _radius_quantile(0.5, ", model, target", "$__rate_interval"),
                "{{model}} {{target}}",
            ),
        ),
    ]


def _bounds() -> list[Panel]:
    return [
        bars(
            About(
                "Which bound won", "Answers by the method that certified the radius.", decimals=0
            ),
            Query(
                "sum by (target, method) "
                f"(increase(reaas_f2i_answers_total{{{_CHOSEN}}}[$__range])) > 0",
                "{{method}} ({{target}})",
            ),
        ),
        series(
            About(
                "Bound evaluations of an answer",
                "Median and largest tenth; 0 for the closed form.",
                "none",
            ),
            *(
                Query(
                    f"histogram_quantile({share}, sum by (le, model) "
                    f"(rate(reaas_f2i_steps_bucket{{{_CHOSEN}}}[$__rate_interval])))",
                    f"{{{{model}}}} p{round(100 * share)}",
                )
                for share in (0.5, 0.9)
            ),
        ),
        series(
            About(
                "Cut short by the deadline",
                "Share of answers that are certified, but could be larger with more time.",
                "percentunit",
            ),
            Query(f"reaas:f2i_cut_short:ratio5m{{{_CHOSEN}}}", "{{model}}"),
        ),
        series(
            About("Compute for one certificate", "Worker time of F2I, mean.", "s"),
            Query(
                "sum by (model) (reaas:compute_seconds:rate5m"
                f'{{{_CHOSEN}, api="f2iperturb"}}) / (sum by (model) (reaas:queries:rate5m'
                f'{{{_CHOSEN}, api="f2iperturb"}}) > 0)',
                "{{model}}",
            ),
        ),
    ]


def _reported() -> list[Panel]:
    return [
        bars(
            About(
                "Average certified radius (ACR)",
                "Mean radius over a client's own test set, 0 where its prediction is wrong. Only "
                "clients know their labels: those that choose to report it are shown.",
                "none",
                3,
            ),
            Query(
                f"max by (client, model, scheme, classifier) (reaas_reported_acr{{{_CHOSEN}}})",
                "{{client}} {{scheme}} {{classifier}} {{model}}",
            ),
        ),
        bars(
            About("Clean accuracy", "Of the same test sets, reported likewise.", "percentunit", 1),
            Query(
                "max by (client, model, scheme, classifier) "
                f"(reaas_reported_accuracy{{{_CHOSEN}}})",
                "{{client}} {{scheme}} {{classifier}} {{model}}",
            ),
        ),
    ]
