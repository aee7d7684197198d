"""One cell: an encoder on a data set, with classifiers of one seed; certificates of each image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reaas import ModelRef
from reaas.certify import accuracy, average_certified_radius, certified_accuracy
from reaas.compare import Bench, Outcome, SeaasOutcome, run_reaas_row

from evaluation.pretraining.settings import WAYS, Settings


@dataclass(frozen=True)
class Certified:
    """The certificates of one classifier for the first `len(labels)` testing images."""

    way: str
    """For people: `REaaS BC CROWN`, `REaaS BC margin`, `REaaS SC`, `SEaaS SC`."""
    seed: int  # of the classifier
    truth: Sequence[int]
    labels: Sequence[int]  # -1: abstained
    radii: Sequence[float]  # L2, pixels in [0,1]
    feature_radii: Sequence[float] | None  # R'; None for margins and for SEaaS
    queries: float  # per testing image
    sigma: float | None = None  # noise, on the feature (REaaS) or the image (SEaaS)
    f2i_methods: dict[str, int] | None = None  # images by the bound that certified them

    @property
    def accuracy(self) -> float:
        """Share of its images that the classifier gets right; abstaining is wrong."""
        return accuracy(self.labels, self.truth)

    def acr(self, first: int | None = None) -> float:
        """Average certified radius on the image, over the first `first` images (None: all)."""
        return average_certified_radius(self.labels[:first], self.radii[:first], self.truth[:first])

    @property
    def feature_acr(self) -> float | None:
        """Average certified radius R' in feature space; None where there is no such ball."""
        if self.feature_radii is None:
            return None
        return average_certified_radius(self.labels, self.feature_radii, self.truth)

    def certified_accuracy(self, radii: Sequence[float]) -> list[float]:
        """Share of images that are right and certified at each of `radii`."""
        shares = certified_accuracy(self.labels, self.radii, self.truth, radii)
        return [float(share) for share in shares]


@dataclass(frozen=True)
class Cell:
    """What REaaS certifies for one encoder, data set and seed, in every way."""

    encoder: ModelRef
    dataset: str
    seed: int
    settings: Settings
    train_inputs: int
    certified: Sequence[Certified]


def measure(bench: Bench, settings: Settings) -> Cell:
    """The cell of `bench`'s encoder, data and seed: every classifier by a client of its own.

    Raises `reaas.ReaasError`, and MeterMismatchError where meters and ledgers differ.
    """
    data, seed = bench.data, bench.config.seed
    truth = data.test_labels.tolist()
    ours = [certificates(run_reaas_row(bench, way), truth, seed) for way in WAYS]
    return Cell(bench.encoder, data.name, seed, settings, bench.train_inputs, ours)


def certificates(outcome: Outcome | SeaasOutcome, truth: Sequence[int], seed: int) -> Certified:
    """What a row of the comparison found; `truth`: the classes of its images."""
    row, found = outcome.row, outcome.certificates
    radii = outcome.certificates.feature_radii if isinstance(outcome, Outcome) else None
    return Certified(
        way=row.label,
        seed=seed,
        truth=truth,
        labels=found.labels.tolist(),
        radii=found.radii.tolist(),
        feature_radii=None if radii is None else radii.tolist(),
        queries=row.queries_per_testing_input or 0.0,
        sigma=row.smoothing.sigma if row.smoothing else None,
        f2i_methods=dict(row.f2i_methods) if row.f2i_methods else None,
    )
