"""The cells of a run, summed up over the seeds, ready for tables, pictures and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from reaas import ModelInfo
from reaas.compare import machine

from evaluation.pretraining.cell import Cell, Certified
from evaluation.pretraining.settings import Settings

RADII = {"36/255": 36 / 255, "72/255": 72 / 255, "108/255": 108 / 255}
"""Radii of the certified accuracies, as Cohen et al. and Salman et al. report them."""


@dataclass(frozen=True)
class Stat:
    """One number of each seed."""

    values: Sequence[float]

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds (n - 1); None for a single seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Line:
    """One way to certify one encoder on one data set; radii are L2 on pixels in [0,1]."""

    dataset: str
    encoder: str
    way: str
    seeds: Sequence[int]
    inputs: int
    train_inputs: int
    queries: float
    accuracy: Stat
    feature_acr: Stat | None
    acr: Stat
    certified_accuracy: dict[str, Stat]
    acr_on_seaas_inputs: Stat | None
    break_even: Sequence[float | None]
    """SEaaS queries per input, of each seed with SEaaS; None: not reached at its largest budget."""
    largest_budget: int | None
    f2i_methods: dict[str, int]


@dataclass(frozen=True)
class Encoder:
    """What its provider says about an encoder."""

    name: str
    digest: str
    lipschitz: float
    training: dict[str, object]
    quality: dict[str, object]

    @classmethod
    def of(cls, info: ModelInfo) -> Encoder:
        """From the service's answer; training time and quality come from the manifest in it."""
        return cls(
            name=f"{info.ref.name}/{info.ref.version}",
            digest=info.ref.digest,
            lipschitz=info.constants.lipschitz,
            training=dict(info.manifest.get("training", {})),
            quality=dict(info.manifest.get("quality", {})),
        )

    @property
    def training_seconds(self) -> float | None:
        """Wall time of pre-training; None where the manifest does not say."""
        seconds = self.training.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None


@dataclass
class Report:
    """Everything that a run measured, and where."""

    settings: Settings
    seeds: Sequence[int]
    encoders: Sequence[Encoder]
    cells: list[Cell] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: dict[str, str | int] = field(default_factory=machine)
    versions: dict[str, str] = field(
        default_factory=lambda: {
            name: version(name) for name in ("reaas", "torch", "onnxruntime", "numpy")
        }
    )

    def lines(self) -> Iterator[Line]:
        """Data set by data set, encoder by encoder, in the order of the cells."""
        for dataset in dict.fromkeys(cell.dataset for cell in self.cells):
            for encoder in self.encoders:
                cells = self.of(dataset, encoder)
                ways = dict.fromkeys(found.way for cell in cells for found in cell.certified)
                yield from (_line(encoder.name, way, cells) for way in ways)

    def of(self, dataset: str, encoder: Encoder) -> list[Cell]:
        """The cells of all seeds."""
        return [
            cell
            for cell in self.cells
            if (cell.dataset, cell.encoder.digest) == (dataset, encoder.digest)
        ]

    def write(self, path: Path) -> None:
        """As JSON, with the mean and spread of every statistic beside its values."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: value for name, value in vars(self).items() if name != "cells"}
        data = {name: _plain(value) for name, value in parts.items()}
        data["lines"] = [_plain(line) for line in self.lines()]
        path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def found_in(cells: Sequence[Cell], way: str) -> list[tuple[Cell, Certified]]:
    """Each cell that has certificates of this kind, with them."""
    return [(cell, found) for cell in cells for found in cell.certified if found.way == way]


def _line(encoder: str, way: str, cells: Sequence[Cell]) -> Line:
    pairs = found_in(cells, way)
    first, certificates = pairs[0]
    feature = [acr for cell, found in pairs if (acr := cell.feature_acr(found)) is not None]
    shares = [cell.certified_accuracy(found, list(RADII.values())) for cell, found in pairs]
    same = [
        cell.acr(found, cell.settings.seaas.test) for cell, found in pairs if cell.settings.seaas
    ]
    even = [item for cell, _ in pairs for item in cell.break_even if item.row == way]
    methods: dict[str, int] = {}
    for _, found in pairs:
        for name, count in (found.f2i_methods or {}).items():
            methods[name] = methods.get(name, 0) + count
    return Line(
        dataset=first.dataset,
        encoder=encoder,
        way=way,
        seeds=[cell.seed for cell, _ in pairs],
        inputs=len(certificates.labels),
        train_inputs=first.train_inputs,
        queries=certificates.queries,
        accuracy=Stat([cell.accuracy(found) for cell, found in pairs]),
        feature_acr=Stat(feature) if feature else None,
        acr=Stat([cell.acr(found) for cell, found in pairs]),
        certified_accuracy={
            name: Stat([share[index] for share in shares]) for index, name in enumerate(RADII)
        },
        acr_on_seaas_inputs=Stat(same) if same else None,
        break_even=[item.queries_per_testing_input for item in even],
        largest_budget=even[0].largest_budget if even else None,
        f2i_methods=methods,
    )


def _plain(value: object) -> object:
    match value:
        case Stat():
            return {"mean": value.mean, "spread": value.spread, "values": list(value.values)}
        case Line():
            return {name: _plain(part) for name, part in vars(value).items()}
        case Settings() | Encoder():
            return asdict(value)
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case _:
            return value
