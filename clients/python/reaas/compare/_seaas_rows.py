"""The SEaaS rows: SC once for each noise level, with its curve; BC, which is not applicable."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from reaas import Client
from reaas.certify import (
    Certificates,
    DownstreamClassifier,
    SmoothingConfig,
    VoteBudget,
    accuracy,
    average_certified_radius,
    certify_budgets,
)
from reaas.compare._bench import Bench, Cost
from reaas.compare._break_even import CurvePoint
from reaas.compare._heads import noisy_head
from reaas.compare._reaas_rows import SMOOTHING
from reaas.compare._report import Record, Row, Smoothing
from reaas.schemes import BASE_NOT_APPLICABLE, ImageCertificates, SeaasScheme

RECORD = "seaas/record"


@dataclass(frozen=True)
class SeaasOutcome:
    """SEaaS with one noise level: its row, its certificates, its curve and the head behind them."""

    sigma: float
    row: Row
    certificates: Certificates
    curve: Sequence[CurvePoint]
    head: DownstreamClassifier


def seaas_name(sigma: float) -> str:
    """Name of the row: `seaas/SC/0.25`."""
    return f"seaas/SC/{sigma:g}"


def run_seaas_row(bench: Bench, sigma: float) -> SeaasOutcome:
    """The whole flow of one client: encode noisy copies, train a head, ask for votes, certify."""
    return run_seaas_rows(bench, sigma, [bench.config.seed])[0]


def run_seaas_rows(bench: Bench, sigma: float, seeds: Sequence[int]) -> list[SeaasOutcome]:
    """The same for the heads of several seeds, on one set of noisy copies: those are what costs.

    Each row has the queries and bytes of all, as a client with its head alone would need them.
    """
    name, config, data, start = seaas_name(sigma), bench.config, bench.data, time.perf_counter()
    votes_each = config.curve[-1].votes
    total = bench.train_inputs * config.copies + bench.test_inputs * votes_each
    with bench.client(name) as own, bench.task(name, total) as advance:
        scheme = _scheme(bench, own.client, sigma)
        features = scheme.encode_training(data.train_images, advance=advance)
        heads = [noisy_head(features, data.train_labels, replace(config, seed=s)) for s in seeds]
        votes = scheme.votes_of_all(data.test_images, heads, votes_each, advance=advance)
        cost = own.cost(train_inputs=bench.train_inputs, test_inputs=bench.test_inputs)
    seconds = time.perf_counter() - start
    return [
        _outcome(bench, sigma, head, own_votes, cost, seconds)
        for head, own_votes in zip(heads, votes, strict=True)
    ]


def _outcome(
    bench: Bench,
    sigma: float,
    head: DownstreamClassifier,
    votes: NDArray[np.int64],
    cost: Cost,
    seconds: float,
) -> SeaasOutcome:
    """What one head certifies with its votes [n, votes]."""
    config = bench.config
    largest = config.curve[-1]
    found = certify_budgets(
        votes,
        classes=head.classes,
        n0=largest.n0,
        alpha=config.alpha,
        sigma=sigma,
        budgets=config.curve,
    )
    points = [_point(bench, sigma, budget, found[budget], cost) for budget in config.curve]
    row = Row(
        name=seaas_name(sigma),
        scheme="seaas",
        certification="SC",
        method=SMOOTHING,
        applicable=True,
        target=None,
        accuracy=points[-1].accuracy,
        acr=points[-1].acr,
        **vars(cost),
        seconds=seconds,
        smoothing=Smoothing(largest.n0, largest.n, config.alpha, sigma),
    )
    return SeaasOutcome(sigma, row, found[largest], points, head)


def mark_best(outcomes: Sequence[SeaasOutcome]) -> list[SeaasOutcome]:
    """The same, with `best_sigma` true for the row of the largest ACR, which is put first."""
    ranked = sorted(outcomes, key=lambda outcome: -(outcome.row.acr or 0.0))
    return [replace(o, row=replace(o.row, best_sigma=o is ranked[0])) for o in ranked]


def base_row() -> Row:
    """seaas/BC: not applicable, and why."""
    return Row(
        name="seaas/BC",
        scheme="seaas",
        certification="BC",
        method=None,
        applicable=False,
        target=None,
        accuracy=None,
        acr=None,
        queries_per_training_input=None,
        queries_per_testing_input=None,
        bytes_per_training_input=None,
        bytes_per_testing_input=None,
        seconds=None,
        reason=BASE_NOT_APPLICABLE,
    )


def run_record(
    bench: Bench,
    best: SeaasOutcome,
    others: Mapping[str, ImageCertificates | Certificates],
) -> Record:
    """SEaaS with `record_votes` at the best sigma, on the first testing inputs.

    `others`: certificates of the rows, of which the ACR on the same inputs is recorded beside it.
    """
    config, data, start = bench.config, bench.data, time.perf_counter()
    smoothing = SmoothingConfig(sigma=best.sigma, n=config.record_votes, alpha=config.alpha)
    images = data.test_images[: config.record_inputs]
    truth = data.test_labels[: len(images)]
    total = len(images) * (smoothing.n0 + smoothing.n)
    with (
        bench.client(RECORD) as own,
        bench.task(f"{RECORD}, n = {smoothing.n:,}", total) as advance,
    ):
        scheme = _scheme(bench, own.client, best.sigma)
        found = scheme.certify_smoothed(images, best.head, smoothing, advance=advance)
        seconds = time.perf_counter() - start
        cost = own.cost(train_inputs=1, test_inputs=len(images))
    return Record(
        test_inputs=len(images),
        sigma=best.sigma,
        n0=smoothing.n0,
        n=smoothing.n,
        accuracy=accuracy(found.labels, truth),
        acr=average_certified_radius(found.labels, found.radii, truth),
        queries_per_testing_input=cost.queries_per_testing_input,
        bytes_per_testing_input=cost.bytes_per_testing_input,
        seconds=seconds,
        acr_of_rows_on_same_inputs={
            name: average_certified_radius(c.labels[: len(truth)], c.radii[: len(truth)], truth)
            for name, c in others.items()
        },
    )


def _scheme(bench: Bench, client: Client, sigma: float) -> SeaasScheme:
    config = bench.config
    return SeaasScheme(
        client,
        bench.encoder,
        sigma=sigma,
        seed=config.seed,
        copies=config.copies,
        batch_inputs=config.batch_inputs,
        in_flight=config.in_flight,
    )


def _point(
    bench: Bench, sigma: float, budget: VoteBudget, found: Certificates, cost: Cost
) -> CurvePoint:
    """A budget that spends a part of the row's queries, at the row's bytes a query."""
    truth = bench.data.test_labels
    share = budget.votes / cost.queries_per_testing_input
    return CurvePoint(
        sigma=sigma,
        n0=budget.n0,
        n=budget.n,
        queries_per_testing_input=budget.votes,
        bytes_per_testing_input=share * cost.bytes_per_testing_input,
        acr=average_certified_radius(found.labels, found.radii, truth),
        accuracy=accuracy(found.labels, truth),
    )
