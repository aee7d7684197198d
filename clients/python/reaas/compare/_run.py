"""Runs a comparison: every row a client of its own, over real services."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from rich.progress import Progress

from reaas.certify import Certificates, certified_accuracy
from reaas.compare._bench import Bench, Connect, client_name
from reaas.compare._break_even import break_even, hopeless_budget
from reaas.compare._config import CompareConfig
from reaas.compare._meters import Meters
from reaas.compare._reaas_rows import (
    KINDS,
    TWIN,
    Outcome,
    reaas_name,
    run_reaas_row,
    run_twin_row,
)
from reaas.compare._report import Report, Row, Twin
from reaas.compare._seaas_rows import (
    RECORD,
    SeaasOutcome,
    base_row,
    mark_best,
    run_record,
    run_seaas_row,
    seaas_name,
)
from reaas.datasets import Dataset
from reaas.schemes import ImageCertificates, pin_model

Found = dict[str, ImageCertificates | Certificates]
_RADII_IN_CURVE = 201


def client_ids(config: CompareConfig) -> list[str]:
    """The client id of every row, for which the services need an API key."""
    own = [reaas_name(kind) for kind in KINDS]
    twins = [TWIN + name for name in own] if config.twin else []
    baseline = [seaas_name(sigma) for sigma in config.sigmas]
    record = [RECORD] if config.record_inputs else []
    return [client_name(name) for name in (*own, *baseline, *record, *twins)]


def run(
    config: CompareConfig,
    data: Dataset,
    connect: Connect,
    *,
    meters: Meters | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measures all rows of the comparison on `data`.

    `connect(client_id)` opens a `reaas.Client`; it is called once for each row with one of
    `client_ids(config)`. `meters` are the services' Prometheus endpoints: costs in the report are
    read there, and a difference to the client's ledger raises MeterMismatchError; without them
    the ledger alone counts. Services' errors come as `reaas.ReaasError`.
    """
    with connect(client_name(reaas_name(KINDS[0]))) as client:
        encoder = pin_model(client, config.encoder)
        twin = pin_model(client, config.twin) if config.twin else None
        release = client.info("encoder").release
    bench = Bench(
        config, data, connect, meters or Meters(()), progress or Progress(disable=True), encoder
    )
    ours = [run_reaas_row(bench, kind) for kind in KINDS]
    twins = [run_twin_row(bench, kind, twin) for kind in KINDS] if twin else []
    baseline = mark_best([run_seaas_row(bench, sigma) for sigma in config.sigmas])
    found: Found = {outcome.row.name: outcome.certificates for outcome in ours}
    found |= {outcome.row.name: outcome.certificates for outcome in baseline}
    record = run_record(bench, baseline[0], found) if config.record_inputs else None
    radii = _radius_grid(found)
    curve = [point for outcome in baseline for point in outcome.curve]
    return Report(
        dataset=data.name,
        encoder=encoder,
        test_inputs=bench.test_inputs,
        train_inputs=bench.train_inputs,
        seed=config.seed,
        rows=[*_with_curves((*ours, *baseline), data, radii), base_row()],
        curve=curve,
        hopeless_queries=hopeless_budget(config.alpha).votes,
        break_even=[
            break_even(outcome.row.name, outcome.row.acr or 0.0, curve, config.alpha)
            for outcome in ours
        ],
        radii=radii,
        twin=Twin(twin, _with_curves(twins, data, radii)) if twin else None,
        record=record,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        release=release,
        machine=machine(),
    )


def _radius_grid(found: Found) -> list[float]:
    largest = max(float(certificates.radii.max()) for certificates in found.values())
    return [float(radius) for radius in np.linspace(0.0, largest, _RADII_IN_CURVE)]


def _with_curves(
    outcomes: Sequence[Outcome | SeaasOutcome], data: Dataset, radii: Sequence[float]
) -> list[Row]:
    """The rows, each with its certified accuracy at `radii`."""
    rows = []
    for outcome in outcomes:
        labels, certified = outcome.certificates.labels, outcome.certificates.radii
        shares = certified_accuracy(labels, certified, data.test_labels, radii)
        rows.append(replace(outcome.row, certified_accuracy=shares.tolist()))
    return rows


def machine() -> dict[str, str | int]:
    """Where this runs, for reports."""
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
    }
