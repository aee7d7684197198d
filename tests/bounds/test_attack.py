"""PGD never beats a certified radius; ONNX Runtime's float32 features are the judge.

Counts (image, radius) pairs that were really attacked: together more than a thousand.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reaas_bounds import (
    CertifiedConstants,
    LinearOp,
    Method,
    Network,
    ReplicateChannels,
    SeparableResize,
    certified_constants,
    certify_ball,
    load_network,
)
from reaas_bounds.bounds.exclusion import jacobian

from tests.bounds.attack import Effort, Served, attack_balls, pgd
from tests.bounds.encoders import ENCODERS, interpolation

MODELS = Path(__file__).parents[2] / "models"
SHIPPED = sorted(path.parent for path in MODELS.glob("*/*/model.onnx"))
IMAGES = 8
FEATURE_RADII = (0.01, 0.1, 0.5, 2.0)


def resizes(network: Network, height: int, width: int) -> list[LinearOp]:
    """Grey images of another size."""
    channels, rows, columns = network.input_shape
    resize = SeparableResize(interpolation(height, rows), interpolation(width, columns))
    return [resize, ReplicateChannels(channels)]


def attacked_pairs(
    onnx: bytes,
    ops: list[LinearOp],
    constants: CertifiedConstants | None = None,
    methods: tuple[Method, ...] = tuple(Method),
    count: int = IMAGES,
    feature_radii: tuple[float, ...] = FEATURE_RADII,
) -> int:
    """Certify, attack every certified radius, and count; fails where an attack succeeds."""
    network = load_network(onnx).with_input(ops)
    constants = constants or certified_constants(network)
    random = np.random.default_rng(11)
    clean = random.uniform(size=(count, *network.input_shape)).astype(np.float32)
    x = torch.from_numpy(np.repeat(clean, len(feature_radii), axis=0).astype(np.float64))
    limits = torch.tensor(feature_radii * count, dtype=torch.float64)
    served = Served(onnx, ops)
    attacked = 0
    for method in methods:
        answers = certify_ball(network, constants, x, limits, method)
        radii = torch.tensor([a.radius for a in answers], dtype=torch.float64)
        verdict = attack_balls(network, served, x, limits, radii, Effort())
        assert not verdict.beaten.any(), method
        attacked += int(verdict.attacked.sum())
    return attacked


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", ENCODERS)
def test_no_attack_beats_a_radius(name: str, seed: int) -> None:
    """10 networks, and 3 below, x 8 images x 4 radii x 4 methods; the floors add up to 1,170."""
    assert attacked_pairs(ENCODERS[name](seed), []) >= 90


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 11), (40, 40)])
def test_no_attack_on_the_clients_own_pixels_beats_a_radius(height: int, width: int) -> None:
    onnx = ENCODERS["strided"](5)
    ops = resizes(load_network(onnx), height, width)
    assert attacked_pairs(onnx, ops) >= 90


def test_a_radius_from_power_iteration_and_no_rounding_would_not_stand() -> None:
    """The attack is strong enough to tell: it beats the constant of the linearisation x 0.9."""
    onnx = ENCODERS["strided"](0)
    network = load_network(onnx)
    x = torch.full((1, *network.input_shape), 0.5, dtype=torch.float64)
    rows = jacobian(network.folded, network.folded.activations(x)).flatten(1)
    local = float(torch.linalg.matrix_norm(rows, 2))
    radius = torch.tensor([1e-3], dtype=torch.float64)
    found = pgd(network, x, radius)[:, 0]
    moved = (network.forward(found) - network.forward(x)).norm(dim=1).max()
    assert float(moved) > 0.9 * local * float(radius)


@pytest.mark.parametrize("directory", SHIPPED, ids=lambda path: "-".join(path.parts[-2:]))
def test_no_attack_beats_a_shipped_encoder(directory: Path) -> None:
    """With the constants that its manifest publishes, as the service uses them."""
    stated = json.loads((directory / "manifest.json").read_text())["certified"]
    constants = CertifiedConstants(
        lipschitz=stated["lipschitz"],
        method=stated["method"],
        layer_norms=tuple(stated["layer_norms"]),
        relative_rounding=stated["relative_rounding"],
        float32_slope=stated["float32_error"]["slope"],
        float32_offset=stated["float32_error"]["offset"],
    )
    onnx = (directory / "model.onnx").read_bytes()
    certified = (Method.LIPSCHITZ,)
    assert attacked_pairs(onnx, [], constants, certified, 5, feature_radii=(1.0, 5.0)) >= 8


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("directory", SHIPPED, ids=lambda path: "-".join(path.parts[-2:]))
def test_no_attack_beats_crown_on_a_shipped_encoder(directory: Path) -> None:
    onnx = (directory / "model.onnx").read_bytes()
    count = attacked_pairs(onnx, [], None, (Method.CROWN, Method.AUTO), 1, feature_radii=(0.5, 5.0))
    assert count >= 2
