"""Certify random questions about an encoder by every method, and attack every answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from reaas_bounds import (
    CertifiedConstants,
    MarginMethod,
    Method,
    Network,
    certified_constants,
    certify_ball,
    certify_margins,
    load_network,
)
from torch import Tensor

from tests.bounds.attack import Effort, Served, Verdict, attack_balls, attack_margins

ROWS = 3
# Radii in image space about which to ask: within one linear piece, across a few, across most.
SCALES = (0.02, 0.2, 1.5)


@dataclass(frozen=True, eq=False)
class Questions:
    """Images [n, C, H, W] with a ball ``feature_radii`` [n] and margins [n, m, d], [n, m] each."""

    x: Tensor
    feature_radii: Tensor
    normals: Tensor
    offsets: Tensor

    @classmethod
    def drawn(
        cls, network: Network, lipschitz: float, images: int, seed: int, scales: tuple[float, ...]
    ) -> Questions:
        """Random images x scales; targets about as far away as ``scales`` times ``lipschitz``."""
        random = np.random.default_rng(seed)
        count = images * len(scales)
        pixels = random.uniform(size=(images, *network.input_shape)).astype(np.float32)
        x = np.repeat(pixels, len(scales), axis=0).astype(np.float64)
        reach = np.tile(lipschitz * np.array(scales), images)  # [n]
        normals = random.normal(size=(count, ROWS, network.feature_dim))
        sizes = np.linalg.norm(normals, axis=2) * random.uniform(0.5, 1.5, (count, ROWS))
        parts = (x, reach * random.uniform(0.7, 1.4, count), normals, sizes * reach[:, None])
        return cls(*(torch.from_numpy(part) for part in parts))


@dataclass
class Audit:
    """Pairs with a radius that were attacked, and the methods of those that were beaten."""

    attacked: int = 0
    beaten: list[str] = field(default_factory=list)

    def record(self, method: Method | MarginMethod, verdict: Verdict) -> None:
        """Count one method's pairs."""
        self.attacked += int(verdict.attacked.sum())
        self.beaten += [str(method)] * int(verdict.beaten.sum())

    def add(self, other: Audit) -> None:
        """Count another audit's pairs too."""
        self.attacked += other.attacked
        self.beaten += other.beaten


def audit(
    onnx: bytes,
    *,
    images: int = 4,
    seed: int = 0,
    scales: tuple[float, ...] = SCALES,
    balls: Iterable[Method] = Method,
    margins: Iterable[MarginMethod] = MarginMethod,
    effort: Effort | None = None,
    twin: Network | None = None,
) -> Audit:
    """Ask about ``images`` random images at every scale, and attack.

    ``twin``: the network that the attacker works on; by default the one that is certified.
    """
    network = load_network(onnx)
    constants = certified_constants(network)
    asked = Questions.drawn(network, constants.lipschitz, images, seed, scales)
    served, attacker, effort = Served(onnx), twin or network, effort or Effort(seed=seed)
    result = Audit()
    for method in balls:
        radii = ball_radii(network, constants, asked, method)
        verdict = attack_balls(attacker, served, asked.x, asked.feature_radii, radii, effort)
        result.record(method, verdict)
    for row_method in margins:
        radii = margin_radii(network, constants, asked, row_method)
        target = (asked.normals, asked.offsets)
        verdict = attack_margins(attacker, served, asked.x, *target, radii, effort)
        result.record(row_method, verdict)
    return result


def audit_sets(onnx: bytes, *, images: int, seed: int, effort: Effort) -> Audit:
    """Ask about three sets of margins at once, and attack the rows and the ball of the best one."""
    network = load_network(onnx)
    constants = certified_constants(network)
    asked = Questions.drawn(network, constants.lipschitz, images, seed, (0.05, 0.7))
    random = np.random.default_rng(seed)
    spread = torch.from_numpy(random.uniform(0.3, 3, (len(asked.x), 3)))  # [n, s]
    turned = torch.from_numpy(random.normal(size=(len(asked.x), 3, ROWS, network.feature_dim)))
    normals = asked.normals[:, None] + 0.3 * turned  # [n, s, m, d]
    offsets = asked.offsets[:, None] * spread[:, :, None]
    within = asked.feature_radii[:, None] * spread.flip(1)
    found = certify_margins(network, constants, asked.x, normals, offsets, valid_within=within)
    radii = torch.tensor([answer.radius for answer in found], dtype=torch.float64)
    best = torch.tensor([answer.margin_set for answer in found])
    each, served, result = torch.arange(len(best)), Served(onnx), Audit()
    rows = attack_margins(
        network, served, asked.x, normals[each, best], offsets[each, best], radii, effort
    )
    ball = attack_balls(network, served, asked.x, within[each, best], radii, effort)
    result.record(MarginMethod.AUTO, Verdict(rows.attacked, rows.beaten | ball.beaten))
    return result


def ball_radii(
    network: Network, constants: CertifiedConstants, asked: Questions, method: Method
) -> Tensor:
    """Certified radii [n] of the balls."""
    answers = certify_ball(network, constants, asked.x, asked.feature_radii, method)
    return torch.tensor([answer.radius for answer in answers], dtype=torch.float64)


def margin_radii(
    network: Network, constants: CertifiedConstants, asked: Questions, method: MarginMethod
) -> Tensor:
    """Certified radii [n] of the margins."""
    target = (asked.normals, asked.offsets)
    answers = certify_margins(network, constants, asked.x, *target, method)
    return torch.tensor([answer.radius for answer in answers], dtype=torch.float64)
