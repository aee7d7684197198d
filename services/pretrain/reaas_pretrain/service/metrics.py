"""What the operators of runs see in Prometheus."""

from __future__ import annotations

from functools import partial

from prometheus_client import Counter, Gauge
from reaas_runtime import Meter

from reaas_pretrain.service.run import Run, RunState
from reaas_pretrain.service.store import RunStore


class RunMetrics:
    """Runs by state, and the time that they run, on the service's registry."""

    def __init__(self, meter: Meter, store: RunStore) -> None:
        runs = Gauge("reaas_pretrain_runs", "Runs by state.", ("state",), registry=meter.registry)
        for state in RunState:
            runs.labels(state).set_function(partial(_count, store, state))
        self._seconds = Counter(
            "reaas_pretrain_run_seconds",
            "Time that runs were running.",
            ("recipe",),
            registry=meter.registry,
        )

    def ran(self, run: Run, seconds: float) -> None:
        """`run` has been running for so long since the last time."""
        self._seconds.labels(run.spec.recipe).inc(seconds)


def _count(store: RunStore, state: RunState) -> float:
    return float(len(store.runs(state)))
