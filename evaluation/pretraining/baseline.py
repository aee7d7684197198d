"""SEaaS on an encoder and a data set: classifiers of all seeds on one set of noisy features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reaas import ModelRef
from reaas.compare import Bench, CurvePoint, mark_best, run_seaas_rows

from evaluation.pretraining.cell import Certified, certificates
from evaluation.pretraining.settings import Baseline


@dataclass(frozen=True)
class Baselines:
    """SEaaS with the classifier of each seed, at its best noise level."""

    encoder: ModelRef
    dataset: str
    settings: Baseline
    certified: Sequence[Certified]
    curves: Sequence[Sequence[CurvePoint]]
    """Of each seed: every noise level at every budget."""

    @property
    def images(self) -> int:
        """Its testing images."""
        return len(self.certified[0].labels)

    def curve(self, seed: int) -> Sequence[CurvePoint]:
        """ACR against queries, of the classifier of `seed`; nothing where it has none."""
        return next((c for f, c in zip(self.certified, self.curves, strict=True)
                     if f.seed == seed), ())  # fmt: skip


def measure_baselines(bench: Bench, settings: Baseline) -> Baselines:
    """SEaaS on `bench`'s encoder and the first of its images, by a client for each noise level.

    Raises `reaas.ReaasError`, and MeterMismatchError where meters and ledgers differ.
    """
    data, few = bench.data, settings.test
    first = replace(data, test_images=data.test_images[:few], test_labels=data.test_labels[:few])
    part = replace(bench, data=first)
    levels = [run_seaas_rows(part, sigma, settings.seeds) for sigma in settings.sigmas]
    truth = first.test_labels.tolist()
    found, curves = [], []
    for seed, outcomes in zip(settings.seeds, zip(*levels, strict=True), strict=True):
        ranked = mark_best(outcomes)
        found.append(certificates(ranked[0], truth, seed))
        curves.append([point for outcome in ranked for point in outcome.curve])
    return Baselines(bench.encoder, data.name, settings, found, curves)
