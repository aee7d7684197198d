"""The result of a comparison, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reaas import ModelRef
from reaas.compare._break_even import BreakEven, CurvePoint


@dataclass(frozen=True)
class Smoothing:
    """Parameters of a smoothed classifier. sigma is on pixels in [0,1] for SEaaS, on the feature
    for REaaS."""

    n0: int
    n: int
    alpha: float
    sigma: float


@dataclass(frozen=True)
class Row:
    """One way to certify, measured over all testing inputs. Radii are L2 on images in [0,1]."""

    name: str
    scheme: str
    certification: str  # "BC" | "SC"
    method: str | None  # None: not applicable
    applicable: bool
    target: str | None  # of F2IPerturb: "ball" | "margin"; None without F2IPerturb
    accuracy: float | None  # of the classifier that is certified; abstaining is wrong
    acr: float | None
    queries_per_training_input: float | None
    queries_per_testing_input: float | None
    bytes_per_training_input: float | None
    bytes_per_testing_input: float | None
    seconds: float | None
    smoothing: Smoothing | None = None
    reason: str | None = None  # why it is not applicable
    best_sigma: bool | None = None  # SEaaS: whether this sigma has the largest ACR of the grid
    f2i_methods: Mapping[str, int] | None = None  # REaaS: inputs by the bound that certified them
    certified_accuracy: Sequence[float] | None = None  # at Report.radii

    @property
    def label(self) -> str:
        """For people: `REaaS BC CROWN`, `REaaS BC margin`, `SEaaS SC`."""
        if self.target == "margin":
            return f"{self.scheme[:2].upper()}aaS {self.certification} margin"
        method = f" {self.method}" if self.certification == "BC" and self.method else ""
        return f"{self.scheme[:2].upper()}aaS {self.certification}{method}"


@dataclass(frozen=True)
class Record:
    """SEaaS with many votes on the first `test_inputs` testing inputs, and the rows on the same."""

    test_inputs: int
    sigma: float
    n0: int
    n: int
    accuracy: float
    acr: float
    queries_per_testing_input: float
    bytes_per_testing_input: float
    seconds: float
    acr_of_rows_on_same_inputs: Mapping[str, float]


@dataclass(frozen=True)
class Twin:
    """The REaaS rows with another encoder."""

    encoder: ModelRef
    rows: Sequence[Row]


@dataclass(frozen=True)
class Report:
    """Everything that tables and pictures show."""

    dataset: str
    encoder: ModelRef
    test_inputs: int
    train_inputs: int
    seed: int
    rows: Sequence[Row]
    curve: Sequence[CurvePoint]
    hopeless_queries: int  # the largest budget at which SEaaS certifies nothing, whatever the votes
    break_even: Sequence[BreakEven]
    radii: Sequence[float]  # grid of the certified-accuracy curves
    twin: Twin | None
    record: Record | None
    date: str  # UTC, ISO 8601
    release: str  # of the encoder service
    machine: Mapping[str, str | int]

    def to_json(self) -> dict[str, Any]:
        """As plain data for `json`."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Writes the report as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), indent=2, allow_nan=False, default=float)
        path.write_text(text + "\n", encoding="utf-8")

    def row(self, name: str) -> Row:
        """The row of that name; KeyError where there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are {[row.name for row in self.rows]}")

    @property
    def best_seaas(self) -> Row:
        """SEaaS with the noise level that has the largest ACR on the test inputs."""
        return next(row for row in self.rows if row.best_sigma)
