"""Margins: no attack beats a certified radius, and what the search promises of its answers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reaas_bounds.margin_set
import torch
from reaas_bounds import (
    CertifiedConstants,
    CertifiedMargin,
    InvalidQueryError,
    LinearOp,
    MarginMethod,
    MarginOptions,
    Network,
    certified_constants,
    certify_margins,
    load_network,
)
from reaas_bounds.bounds.centre import Centre
from reaas_bounds.bounds.envelope import Envelope, quadratic_envelope
from reaas_bounds.bounds.row_constant import row_constants
from reaas_bounds.bounds.row_gram import row_constants_of
from reaas_bounds.bounds.row_interval import crown_rows, ibp_rows
from reaas_bounds.rounding import FARTHEST, float32_row_error_at
from torch import Tensor

from tests.bounds.attack import Effort, Served, attack_margins
from tests.bounds.encoders import ENCODERS, EncoderBuilder
from tests.bounds.test_attack import SHIPPED, resizes

SCALES = (0.02, 0.3, 3.0)
ROWS = 3
QUICK = MarginOptions(steps=1)
Question = tuple[Tensor, Tensor, Tensor]


def questions(network: Network, images: int, scales: tuple[float, ...] = SCALES) -> Question:
    """Images x scales: inputs [n, C, h, w], normals [n, 3, d], offsets [n, 3], random."""
    random = np.random.default_rng(5)
    x = random.uniform(size=(images, *network.input_shape)).astype(np.float32)
    inputs = torch.from_numpy(np.repeat(x, len(scales), axis=0).astype(np.float64))
    normals = torch.from_numpy(random.normal(size=(len(inputs), ROWS, network.feature_dim)))
    size = torch.tensor(scales, dtype=torch.float64).repeat(images)[:, None]
    return inputs, normals, size * torch.from_numpy(random.uniform(1, 2, (len(inputs), ROWS)))


def beaten(onnx: bytes, ops: list[LinearOp], question: Question, radii: Tensor) -> tuple[int, int]:
    """(attacked, beaten) pairs, with served float32 features and float32 images as the judge."""
    network = load_network(onnx).with_input(ops)
    verdict = attack_margins(network, Served(onnx, ops), *question, radii, Effort(steps=20))
    return int(verdict.attacked.sum()), int(verdict.beaten.sum())


def radii_of(answers: list[CertifiedMargin]) -> Tensor:
    return torch.tensor([answer.radius for answer in answers], dtype=torch.float64)


def certified(
    network: Network, question: Question, method: MarginMethod = MarginMethod.AUTO
) -> Tensor:
    constants = certified_constants(network)
    answers = certify_margins(network, constants, *question, method, QUICK)
    assert all(answer.converged for answer in answers)
    return radii_of(answers)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_attack_beats_a_certified_margin(name: str, seed: int) -> None:
    """10 networks x 15 pairs, and 3 x 15 below."""
    onnx = ENCODERS[name](seed)
    network = load_network(onnx)
    question = questions(network, 5)
    attacked, lost = beaten(onnx, [], question, certified(network, question))
    assert attacked >= 13
    assert lost == 0


@pytest.mark.parametrize("method", [MarginMethod.LIPSCHITZ, MarginMethod.IBP, MarginMethod.CROWN])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_attack_beats_a_margin_of_a_single_method(name: str, method: MarginMethod) -> None:
    onnx = ENCODERS[name](2)
    network = load_network(onnx)
    question = questions(network, 3)
    attacked, lost = beaten(onnx, [], question, certified(network, question, method))
    assert attacked >= 7
    assert lost == 0


@pytest.mark.parametrize("name", ENCODERS)
def test_crown_of_rows_is_never_above_ibp_and_grows_with_the_radius(name: str) -> None:
    network = load_network(ENCODERS[name](2))
    x, normals, _ = questions(network, 1)
    centre = Centre.of(network, x[:1])
    bounds = []
    for radius in (0.01, 0.1, 1.0):
        ibp = ibp_rows(centre, normals[0], radius)
        crown = crown_rows(centre, normals[0], radius).at(radius)
        assert bool((crown <= ibp).all())
        assert bool((crown > 0).all())
        bounds.append(crown)
    assert bool((bounds[0] < bounds[1]).all() and (bounds[1] < bounds[2]).all())


@pytest.mark.parametrize("name", ENCODERS)
def test_row_constants_are_those_of_the_rows_pulled_back(name: str) -> None:
    network = load_network(ENCODERS[name](4))
    rows = torch.randn(20, network.feature_dim, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([rows.double(), 1e-8 * rows.double(), torch.zeros_like(rows).double()])
    known, quick = row_constants(network, rows), row_constants_of(network)(rows)
    assert bool((quick >= known * (1 - 1e-12)).all())
    assert bool((quick <= known * (1 + 1e-6) + 1e-30).all())


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 11), (16, 16)])
def test_no_attack_on_the_clients_own_pixels_beats_a_certified_margin(
    height: int, width: int
) -> None:
    onnx = ENCODERS["strided"](5)
    ops = resizes(load_network(onnx), height, width)
    network = load_network(onnx).with_input(ops)
    question = questions(network, 5)
    attacked, lost = beaten(onnx, ops, question, certified(network, question))
    assert attacked >= 13
    assert lost == 0


@pytest.mark.slow
@pytest.mark.parametrize("directory", SHIPPED, ids=lambda path: "-".join(path.parts[-2:]))
def test_no_attack_beats_a_certified_margin_of_a_shipped_encoder(directory: Path) -> None:
    onnx = (directory / "model.onnx").read_bytes()
    network = load_network(onnx)
    question = questions(network, 3, scales=(5.0, 20.0))
    attacked, lost = beaten(onnx, [], question, certified(network, question))
    assert attacked >= 3
    assert lost == 0


class TestBrokenEnvelopesAreCaught:
    """What would be an engine's mistake makes certificates that the same attack beats."""

    def lost(self, monkeypatch: pytest.MonkeyPatch, **zeroed: float) -> int:
        """Pairs beaten when terms of the envelope are multiplied by ``zeroed``."""

        def broken(*arguments: object) -> Envelope:
            sound = quadratic_envelope(*arguments)  # type: ignore[arg-type]
            return replace(sound, **{k: v * getattr(sound, k) for k, v in zeroed.items()})

        monkeypatch.setattr(reaas_bounds.margin_set, "quadratic_envelope", broken)
        builder = EncoderBuilder((1, 4, 4), seed=3).op("Flatten").linear(16, 2).relu()
        onnx = builder.linear(2, 2).file(2)
        network = load_network(onnx)
        question = questions(network, 12, scales=(0.1, 0.3, 1.0))
        return beaten(onnx, [], question, certified(network, question))[1]

    def test_the_sound_one_stands(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.lost(monkeypatch, curvature=1.0) == 0

    def test_prefix_constants_of_half_the_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.lost(monkeypatch, curvature=0.25) > 0

    def test_no_sum_of_beta(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.lost(monkeypatch, offset=0.0) > 0


@pytest.mark.parametrize("seed", range(4))
def test_an_exact_oracle_on_the_plane_confirms_the_radii(seed: int) -> None:
    """Two pixels: the true limit is read off a fine grid of all perturbations."""
    builder = EncoderBuilder((1, 1, 2), seed=seed).op("Flatten").linear(2, 9).relu()
    onnx = builder.linear(9, 5).relu().linear(5, 2).file(2)
    network = load_network(onnx)
    question = questions(network, 4, scales=(0.1, 0.5))
    radii = certified(network, question)
    angle = torch.linspace(0, 2 * math.pi, 721, dtype=torch.float64)[:-1]
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)  # [720, 2]
    lengths = torch.linspace(0, 3, 601, dtype=torch.float64)[1:]
    steps = (lengths[:, None, None] * circle).reshape(-1, 1, 1, 2)  # [600 * 720, 1, 1, 2]
    shares = []
    for x, normal, offset, radius in zip(*question, radii.tolist(), strict=True):
        moved = network.forward(x + steps) - network.forward(x[None])
        broken = ((moved @ normal.T + offset) <= 0).any(dim=1).reshape(600, 720).any(dim=1)
        if bool(broken.any()):
            limit = float(lengths[broken][0])
            assert radius < limit
            shares.append(radius / limit)
    assert len(shares) >= 4
    assert max(shares) > 0.2


@pytest.fixture(scope="module", params=["strided", "residual"])
def served(request: pytest.FixtureRequest) -> tuple[Network, CertifiedConstants]:
    network = load_network(ENCODERS[request.param](7))
    return network, certified_constants(network)


Loaded = tuple[Network, CertifiedConstants]


def test_the_answer_does_not_depend_on_the_batch(served: Loaded) -> None:
    question = questions(served[0], 2)
    together = certify_margins(*served, *question)
    for index, answer in enumerate(together):
        x, normals, offsets = (part[index : index + 1] for part in question)
        assert certify_margins(*served, x, normals, offsets) == [answer]


def test_larger_margins_never_give_a_smaller_radius(served: Loaded) -> None:
    inputs, normals, offsets = (part[:1] for part in questions(served[0], 1))
    growth = torch.logspace(-1, 1, 25, dtype=torch.float64)[:, None]
    answers = certify_margins(
        *served,
        inputs.expand(25, -1, -1, -1),
        normals.expand(25, -1, -1),
        growth * offsets,
        options=QUICK,
    )
    assert all(a.radius <= b.radius for a, b in itertools.pairwise(answers))
    assert any(answer.method is not MarginMethod.LIPSCHITZ for answer in answers)


def test_auto_is_never_below_a_single_method(served: Loaded) -> None:
    question = questions(served[0], 2)
    auto = certify_margins(*served, *question)
    for method in set(MarginMethod) - {MarginMethod.AUTO}:
        single = certify_margins(*served, *question, method=method)
        assert all(answer.method is method for answer in single)
        assert all(a.radius >= b.radius for a, b in zip(auto, single, strict=True))


def test_a_stopped_search_returns_what_is_certified_so_far(served: Loaded) -> None:
    question = questions(served[0], 1)
    floor = certify_margins(*served, *question, method=MarginMethod.LIPSCHITZ)
    stopped = certify_margins(*served, *question, stop=lambda: True)
    assert [a.radius for a in stopped] == [a.radius for a in floor]
    assert not any(answer.converged for answer in stopped)
    short = certify_margins(*served, *question, options=MarginOptions(max_envelopes=1))
    for low, answer in zip(floor, short, strict=True):
        assert (answer.steps, answer.converged) == (1, False)
        assert answer.radius >= low.radius


def test_the_scale_of_a_row_does_not_matter(served: Loaded) -> None:
    inputs, normals, offsets = (part[1:2] for part in questions(served[0], 1))
    expected = certify_margins(*served, inputs, normals, offsets)[0].radius
    for scale in (1e-20, 1e-3, 1e8, 1e200):
        found = certify_margins(*served, inputs, scale * normals, scale * offsets)[0].radius
        assert math.isclose(found, expected, rel_tol=1e-3)


def test_rows_that_cannot_or_must_limit(served: Loaded) -> None:
    inputs, normals, offsets = (part[1:2] for part in questions(served[0], 1))
    expected = certify_margins(*served, inputs, normals, offsets)[0]
    idle = torch.zeros_like(normals[:, :1])
    one = torch.ones_like(offsets[:, :1])
    padded = torch.cat([normals, idle], 1), torch.cat([offsets, one], 1)
    assert certify_margins(*served, inputs, *padded) == [expected]
    assert certify_margins(*served, inputs, idle, one)[0].radius == FARTHEST
    for lost in (-one, 0 * one):
        assert certify_margins(*served, inputs, idle, lost)[0].radius == 0.0
        broken = torch.cat([offsets, lost], 1)
        answer = certify_margins(*served, inputs, torch.cat([normals, normals[:, :1]], 1), broken)
        assert (answer[0].radius, answer[0].row) == (0.0, ROWS)


@pytest.mark.parametrize("method", MarginMethod)
def test_a_margin_below_the_float32_error_certifies_nothing(
    served: Loaded, method: MarginMethod
) -> None:
    inputs, normals, _ = (part[:1] for part in questions(served[0], 1))
    error = float32_row_error_at(served[0], inputs, normals)  # [1, m]
    for share in (0.5, 1.9):  # it counts for the features of both images
        answer = certify_margins(*served, inputs, normals, share * error, method)[0]
        assert answer.radius == 0.0
        assert answer.converged
    assert certify_margins(*served, inputs, normals, 3 * error, method)[0].radius > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"normals": (1, 3, 5)},
            r"normals: must be .*\[1, s, m, 6\], got \[1, 3, 5\]",
        ),
        ({"normals": (2, 3, 6)}, r"normals: must be \[1, m, 6\]"),
        ({"normals": (1, 0, 6), "offsets": (1, 0)}, "normals: hold no row"),
        ({"offsets": (1, 4)}, r"offsets: must be \[1, 3\], got \[1, 4\]"),
        ({"inputs": (1, 3, 8, 9)}, "inputs: must be"),
        ({"value": math.nan}, "normals: hold values that are not finite"),
        ({"value": math.inf}, "normals: hold values that are not finite"),
        ({"dtype": torch.float32}, "offsets: must be float64, got torch.float32"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    served: Loaded, change: dict[str, object], message: str
) -> None:
    x = torch.full(change.get("inputs", (1, 3, 8, 8)), 0.5, dtype=torch.float64)  # type: ignore
    normals = torch.ones(change.get("normals", (1, 3, 6)), dtype=torch.float64)  # type: ignore
    normals *= change.get("value", 1.0)
    dtype = change.get("dtype", torch.float64)
    offsets = torch.ones(change.get("offsets", (1, 3)), dtype=dtype)  # type: ignore[call-overload]
    with pytest.raises(InvalidQueryError, match=message):
        certify_margins(*served, x, normals, offsets)


def test_options_are_checked() -> None:
    with pytest.raises(InvalidQueryError, match="steps: must not be negative, got -1"):
        MarginOptions(steps=-1)
    with pytest.raises(InvalidQueryError, match="max_envelopes: must be at least 1, got 0"):
        MarginOptions(max_envelopes=0)
