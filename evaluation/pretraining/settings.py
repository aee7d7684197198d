"""What is measured of every encoder; a finished cell is reused only under the same settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from reaas.certify import CURVE_BUDGETS
from reaas.compare import CompareConfig, Kind

WAYS: tuple[Kind, ...] = ("BC/CROWN", "BC/CROWN/margin", "SC")
"""Ways to certify with REaaS. IBP is left out: on a linear classifier it equals CROWN."""

IMAGES_SEED = 1
"""Draws the images. One for all cells: encoders and seeds are compared on the same images."""

LOOSE = 20.0
"""Certified constant from which AUTO is likely to take seconds a ball: such encoders have a method
of their own. Encoders that were trained for their constant are far below, others far above."""


@dataclass(frozen=True)
class Settings:
    """Sizes and methods of one cell: an encoder, a data set, a seed of its classifiers."""

    test: int
    """Testing images of REaaS; a data set that has fewer gives all it has."""
    train: int
    """Training images of every classifier, of both schemes."""
    f2i_method: str
    """Bound behind F2IPerturb for balls."""
    margin_f2i_method: str
    """Bound behind F2IPerturb for margins."""

    def compare_config(self, encoder: str, seed: int) -> CompareConfig:
        """The settings of the comparison that a cell is made of."""
        return CompareConfig(
            encoder=encoder,
            f2i_method=self.f2i_method,
            margin_f2i_method=self.margin_f2i_method,
            seed=seed,
        )


@dataclass(frozen=True)
class Baseline:
    """SEaaS on one encoder and data set: what it may spend."""

    samples: int
    """n of its certificates; n0 is a tenth."""
    test: int
    """Its testing images, the first of REaaS's: it is the dear part."""
    train: int
    """Training images, those of REaaS."""
    sigmas: tuple[float, ...]
    """Noise levels on the image; the best is chosen on its testing images, which favours it."""
    seeds: tuple[int, ...]
    """Of its classifiers. The noise is that of the first one: noisy features do not depend on the
    classifier, so they are drawn once, and all classifiers are trained and vote on them."""

    def compare_config(self, encoder: str) -> CompareConfig:
        """The settings of the comparison that it is made of."""
        smaller = (budget.n for budget in CURVE_BUDGETS if budget.n < self.samples)
        return replace(
            CompareConfig(encoder=encoder, seed=self.seeds[0]),
            sigmas=self.sigmas,
            budgets=(*smaller, self.samples),
        )
