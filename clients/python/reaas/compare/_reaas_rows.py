"""The REaaS rows: BC by CROWN (ball and margins), BC by IBP, SC."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reaas import ModelRef
from reaas.certify import SmoothingConfig, accuracy, average_certified_radius
from reaas.compare._bench import Advance, Bench
from reaas.compare._heads import base_head, smoothed_head
from reaas.compare._report import Row, Smoothing
from reaas.schemes import ImageCertificates, ReaasScheme

Kind = Literal["BC/CROWN", "BC/CROWN/margin", "BC/IBP", "SC"]
_MARGIN: Kind = "BC/CROWN/margin"
SMOOTHING = "randomized smoothing"
TWIN = "twin/"
KINDS: tuple[Kind, ...] = ("BC/CROWN", "BC/IBP", _MARGIN, "SC")
"""The ways to certify."""


@dataclass(frozen=True)
class Outcome:
    """A row and the certificates that it sums up."""

    row: Row
    certificates: ImageCertificates


def reaas_name(kind: Kind) -> str:
    """Name of the row: `reaas/BC/CROWN`."""
    return f"reaas/{kind}"


def run_reaas_row(bench: Bench, kind: Kind) -> Outcome:
    """The whole flow of one client: encode, train a head, encode, certify, perturb."""
    config = bench.config
    method = config.margin_f2i_method if kind == _MARGIN else config.f2i_method
    return _run(bench, kind, bench.encoder, method, "")


def run_twin_row(bench: Bench, kind: Kind, twin: ModelRef) -> Outcome:
    """The same with the twin encoder."""
    config = bench.config
    method = config.twin_margin_f2i_method if kind == _MARGIN else config.twin_f2i_method
    return _run(bench, kind, twin, method, TWIN)


def _run(bench: Bench, kind: Kind, model: ModelRef, f2i_method: str, prefix: str) -> Outcome:
    """`prefix` goes before the row's name in the client id and in the progress display."""
    name, data, start = reaas_name(kind), bench.data, time.perf_counter()
    with (
        bench.client(prefix + name) as own,
        bench.task(prefix + name, bench.test_inputs) as advance,
    ):
        scheme = ReaasScheme(own.client, model, f2i_method=f2i_method)
        features = scheme.encode_training(data.train_images)  # [n, d]
        if kind == "SC":
            certificates, smoothing = _smoothed(bench, scheme, features, advance)
        else:
            certificates = _base(bench, scheme, features, kind, advance)
            smoothing = None
        seconds = time.perf_counter() - start
        cost = own.cost(train_inputs=bench.train_inputs, test_inputs=bench.test_inputs)
    truth = data.test_labels
    row = Row(
        name=name,
        scheme="reaas",
        certification=kind[:2],
        method=SMOOTHING if kind == "SC" else kind.split("/")[1],
        applicable=True,
        target="margin" if kind == _MARGIN else "ball",
        accuracy=accuracy(certificates.labels, truth),
        acr=average_certified_radius(certificates.labels, certificates.radii, truth),
        **vars(cost),
        seconds=seconds,
        smoothing=smoothing,
        f2i_methods=dict(Counter(certificates.methods)),
    )
    return Outcome(row, certificates)


def _base(
    bench: Bench, scheme: ReaasScheme, features: NDArray[np.float32], kind: Kind, advance: Advance
) -> ImageCertificates:
    head = base_head(features, bench.data.train_labels, bench.config)
    return scheme.certify_base(
        bench.data.test_images,
        head,
        "ibp" if kind == "BC/IBP" else "crown",
        target="margin" if kind == _MARGIN else "ball",
        advance=advance,
    )


def _smoothed(
    bench: Bench, scheme: ReaasScheme, features: NDArray[np.float32], advance: Advance
) -> tuple[ImageCertificates, Smoothing]:
    config, data = bench.config, bench.data
    head = smoothed_head(features, data.train_labels, config)
    smoothing = SmoothingConfig(sigma=head.sigma, n=config.feature_votes, alpha=config.alpha)
    certificates = scheme.certify_smoothed(
        data.test_images, head.classifier, smoothing, seed=config.seed, advance=advance
    )
    return certificates, Smoothing(smoothing.n0, smoothing.n, smoothing.alpha, smoothing.sigma)
