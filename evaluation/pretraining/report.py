"""The cells of a run, summed up over the seeds, ready for tables, pictures and JSON."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from reaas import ModelInfo
from reaas.compare import BreakEven, CompareConfig, break_even, machine

from evaluation.pretraining.baseline import Baselines
from evaluation.pretraining.cell import Cell, Certified
from evaluation.pretraining.settings import Baseline, Settings

RADII = {"36/255": 36 / 255, "72/255": 72 / 255, "108/255": 108 / 255}
"""Radii of the certified accuracies, as Cohen et al. and Salman et al. report them."""

REFERENCE = "moco-sn"
"""Encoder to which the others' ACR is compared: the talk's own."""


ALPHA = CompareConfig.alpha
"""Failure probability of a smoothed certificate: that of the comparison."""

Part = TypeVar("Part", Cell, Baselines)


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
    encoder: str  # name/version
    model: str  # its name
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
    ratio: float | None = None
    """ACR in units of that of `REFERENCE`, certified the same way; None where it is not there."""


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
    loose_f2i_method: str
    """Instead of `settings.f2i_method` for encoders with a constant above `LOOSE`."""
    baseline: Baseline | None
    """None: only REaaS was measured."""
    seeds: Sequence[int]
    encoders: Sequence[Encoder]
    cells: list[Cell] = field(default_factory=list)
    baselines: list[Baselines] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: dict[str, str | int] = field(default_factory=machine)
    versions: dict[str, str] = field(
        default_factory=lambda: {
            name: version(name) for name in ("reaas", "torch", "onnxruntime", "numpy")
        }
    )

    @property
    def datasets(self) -> list[str]:
        """In the order in which they were measured."""
        return list(dict.fromkeys(cell.dataset for cell in self.cells))

    def lines(self) -> Iterator[Line]:
        """Data set by data set, encoder by encoder, REaaS and then SEaaS."""
        for dataset in self.datasets:
            lines = [
                self._line(dataset, encoder, found)
                for encoder in self.encoders
                for found in self.certified(dataset, encoder).values()
            ]
            of_reference = {line.way: line.acr.mean for line in lines if line.model == REFERENCE}
            yield from (_compared(line, of_reference.get(line.way)) for line in lines)

    def certified(self, dataset: str, encoder: Encoder) -> dict[str, list[Certified]]:
        """The certificates of all seeds, by the way to certify."""
        cells = self._of(self.cells, dataset, encoder)
        parts: list[Cell | Baselines] = [*cells, *self._of(self.baselines, dataset, encoder)]
        ways: dict[str, list[Certified]] = {}
        for part in parts:
            for found in part.certified:
                ways.setdefault(found.way, []).append(found)
        return ways

    def write(self, path: Path) -> None:
        """As JSON, with the mean and spread of every statistic beside its values."""
        path.parent.mkdir(parents=True, exist_ok=True)
        left_out = ("cells", "baselines")
        parts = {name: value for name, value in vars(self).items() if name not in left_out}
        data = {name: _plain(value) for name, value in parts.items()}
        data["lines"] = [_plain(line) for line in self.lines()]
        path.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def _of(self, parts: Sequence[Part], dataset: str, encoder: Encoder) -> list[Part]:
        return [
            part
            for part in parts
            if (part.dataset, part.encoder.digest) == (dataset, encoder.digest)
        ]

    def _line(self, dataset: str, encoder: Encoder, found: list[Certified]) -> Line:
        cells = self._of(self.cells, dataset, encoder)
        rival = next(iter(self._of(self.baselines, dataset, encoder)), None)
        budgets = _break_even(found, rival)
        feature = [acr for each in found if (acr := each.feature_acr) is not None]
        shares = [each.certified_accuracy(list(RADII.values())) for each in found]
        methods = sum((Counter(each.f2i_methods or {}) for each in found), Counter[str]())
        return Line(
            dataset=dataset,
            encoder=encoder.name,
            model=cells[0].encoder.name,
            way=found[0].way,
            seeds=[each.seed for each in found],
            inputs=len(found[0].labels),
            train_inputs=cells[0].train_inputs,
            queries=found[0].queries,
            accuracy=Stat([each.accuracy for each in found]),
            feature_acr=Stat(feature) if feature else None,
            acr=Stat([each.acr() for each in found]),
            certified_accuracy={
                name: Stat([share[index] for share in shares]) for index, name in enumerate(RADII)
            },
            acr_on_seaas_inputs=Stat([each.acr(rival.images) for each in found]) if rival else None,
            break_even=[budget.queries_per_testing_input for budget in budgets],
            largest_budget=budgets[0].largest_budget if budgets else None,
            f2i_methods=dict(methods),
        )


def _compared(line: Line, reference: float | None) -> Line:
    return replace(line, ratio=line.acr.mean / reference) if reference else line


def _break_even(found: Sequence[Certified], rival: Baselines | None) -> list[BreakEven]:
    """For each seed that SEaaS has too, on its images: when it draws level; none for itself."""
    if rival is None or found[0] in rival.certified:
        return []
    return [
        break_even(each.way, each.acr(rival.images), curve, ALPHA)
        for each in found
        if (curve := rival.curve(each.seed))
    ]


def _plain(value: object) -> object:
    match value:
        case Stat():
            return {"mean": value.mean, "spread": value.spread, "values": list(value.values)}
        case Line():
            return {name: _plain(part) for name, part in vars(value).items()}
        case Settings() | Baseline() | Encoder():
            return asdict(value)
        case dict():
            return {name: _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case _:
            return value
