"""What a run found, ready for people (tables) and programs (JSON)."""

from __future__ import annotations

import json
import math
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.bench_f2i.measure import Measured

PAPER = "crown"
"""The method of the REaaS paper, to which ratios refer; for margins with the row in front."""


@dataclass(frozen=True)
class Row:
    """One method on one target; shares are of the attacked radii of the same images."""

    encoder: str
    target: str
    method: str
    images: int
    median_share: float
    p10_share: float
    mean_radius: float
    alone_ms: float
    batched_ms: float | None
    pairs_per_second: float | None
    ratio_to_paper: float | None
    """Median over the images that both were asked about."""
    winners: dict[str, int]
    radii: list[float]
    attacked: list[float]


@dataclass(frozen=True)
class Subject:
    """An encoder of the run."""

    name: str
    digest: str
    lipschitz: float
    accuracy: float
    feature_radii: dict[str, float]


@dataclass
class Report:
    """Everything that a run measured, and where."""

    dataset: str
    images: int
    seed: int
    budget_s: float
    subjects: list[Subject] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: dict[str, str | int] = field(default_factory=lambda: _machine())
    versions: dict[str, str] = field(default_factory=lambda: _versions())

    def write(self, path: Path) -> None:
        """As JSON; infinite radii as null."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_finite(asdict(self)), indent=2, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")


def summed_up(
    encoder: str,
    target: str,
    measured: Measured,
    attacked: Tensor,
    paper: Measured | None,
    pairs_per_second: float | None,
) -> Row:
    """The row of one method. Raises AssertionError where a radius is above an attacked one."""
    count = len(measured.radii)
    limits = attacked[:count]
    beaten = (measured.radii > limits).nonzero().flatten().tolist()
    if beaten:
        raise AssertionError(
            f"{encoder}, {target}, {measured.method}: the certified radii of images {beaten} are "
            f"above radii at which an attack succeeded"
        )
    share = (measured.radii / limits).numpy()
    return Row(
        encoder=encoder,
        target=target,
        method=measured.method,
        images=count,
        median_share=float(np.median(share)),
        p10_share=float(np.percentile(share, 10)),
        mean_radius=float(measured.radii.mean()),
        alone_ms=measured.alone_ms,
        batched_ms=measured.batched_ms,
        pairs_per_second=pairs_per_second,
        ratio_to_paper=_ratio(measured.radii, paper.radii) if paper else None,
        winners=measured.winners,
        radii=measured.radii.tolist(),
        attacked=limits.tolist(),
    )


def _ratio(radii: Tensor, paper: Tensor) -> float | None:
    """Median of radius / paper's radius on common images; None where the paper's are mostly 0."""
    common = min(len(radii), len(paper))
    ratio = (radii[:common] / paper[:common]).nan_to_num(1.0, torch.inf)  # 0 / 0: as good
    median = float(np.median(ratio.numpy()))
    return median if math.isfinite(median) else None


def _machine() -> dict[str, str | int]:
    return {
        "architecture": platform.machine(),
        "cores": os.cpu_count() or 1,
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("reaas", "torch", "onnxruntime", "numpy")}


def _finite(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list():
            return [_finite(each) for each in value]
        case _:
            return value
