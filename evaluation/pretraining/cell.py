"""One cell: an encoder on a data set, with classifiers of one seed; certificates of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reaas import ModelRef
from reaas.certify import accuracy, average_certified_radius, certified_accuracy
from reaas.compare import (
    Bench,
    BreakEven,
    Outcome,
    SeaasOutcome,
    break_even,
    mark_best,
    run_reaas_row,
    run_seaas_row,
)

from evaluation.pretraining.settings import WAYS, Settings


@dataclass(frozen=True)
class Certified:
    """The certificates of one classifier for the cell's first `len(labels)` testing images."""

    way: str
    """For people: `REaaS BC CROWN`, `REaaS BC margin`, `REaaS SC`, `SEaaS SC`."""
    labels: Sequence[int]  # -1: abstained
    radii: Sequence[float]  # L2, pixels in [0,1]
    feature_radii: Sequence[float] | None  # R'; None for margins and for SEaaS
    queries: float  # per testing image
    sigma: float | None = None  # noise, on the feature (REaaS) or the image (SEaaS)
    f2i_methods: dict[str, int] | None = None  # images by the bound that certified them


@dataclass(frozen=True)
class Cell:
    """Everything that was measured for one encoder, data set and seed."""

    encoder: ModelRef
    dataset: str
    seed: int
    settings: Settings
    train_inputs: int
    truth: Sequence[int]  # of all testing images
    certified: Sequence[Certified]
    break_even: Sequence[BreakEven]  # of each REaaS classifier, on SEaaS's images; by `way`

    def accuracy(self, found: Certified) -> float:
        """Share of its images that the classifier gets right; abstaining is wrong."""
        return accuracy(found.labels, self._truth(found))

    def acr(self, found: Certified, first: int | None = None) -> float:
        """Average certified radius on the image, over the first `first` images (None: all)."""
        return average_certified_radius(
            found.labels[:first], found.radii[:first], self._truth(found)[:first]
        )

    def feature_acr(self, found: Certified) -> float | None:
        """Average certified radius R' in feature space; None where there is no such ball."""
        if found.feature_radii is None:
            return None
        return average_certified_radius(found.labels, found.feature_radii, self._truth(found))

    def certified_accuracy(self, found: Certified, radii: Sequence[float]) -> list[float]:
        """Share of images that are right and certified at each of `radii`."""
        shares = certified_accuracy(found.labels, found.radii, self._truth(found), radii)
        return [float(share) for share in shares]

    def _truth(self, found: Certified) -> Sequence[int]:
        return self.truth[: len(found.labels)]


def measure(bench: Bench, settings: Settings) -> Cell:
    """The cell of `bench`'s encoder, data and seed: every classifier by a client of its own.

    Raises `reaas.ReaasError`, and MeterMismatchError where meters and ledgers differ.
    """
    ours = [run_reaas_row(bench, way) for way in WAYS]
    cell = Cell(
        encoder=bench.encoder,
        dataset=bench.data.name,
        seed=bench.config.seed,
        settings=settings,
        train_inputs=bench.train_inputs,
        truth=bench.data.test_labels.tolist(),
        certified=[_certified(outcome) for outcome in ours],
        break_even=[],
    )
    return cell if settings.seaas is None else _with_seaas(cell, bench, settings.seaas.test)


def _with_seaas(cell: Cell, bench: Bench, few: int) -> Cell:
    """The cell with SEaaS at its best noise level, and the budget at which it draws level."""
    data, config = bench.data, bench.config
    first = replace(data, test_images=data.test_images[:few], test_labels=data.test_labels[:few])
    part = replace(bench, data=first)
    levels = mark_best([run_seaas_row(part, sigma) for sigma in config.sigmas])
    curve = [point for level in levels for point in level.curve]
    even = [
        break_even(found.way, cell.acr(found, part.test_inputs), curve, config.alpha)
        for found in cell.certified
    ]
    return replace(cell, certified=[*cell.certified, _certified(levels[0])], break_even=even)


def _certified(outcome: Outcome | SeaasOutcome) -> Certified:
    row, found = outcome.row, outcome.certificates
    radii = outcome.certificates.feature_radii if isinstance(outcome, Outcome) else None
    return Certified(
        way=row.label,
        labels=found.labels.tolist(),
        radii=found.radii.tolist(),
        feature_radii=None if radii is None else radii.tolist(),
        queries=row.queries_per_testing_input or 0.0,
        sigma=row.smoothing.sigma if row.smoothing else None,
        f2i_methods=dict(row.f2i_methods) if row.f2i_methods else None,
    )
