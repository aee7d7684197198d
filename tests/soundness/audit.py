"""Certify random questions about an encoder by every method, and attack every answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx
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
from reaas_bounds.bounds.region import Region
from torch import Tensor

from tests.bounds.attack import Effort, Served, Verdict, attack_balls, attack_margins
from tests.soundness.tally import Audit

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


@dataclass(frozen=True, eq=False)
class Claim:
    """Certified ``radii`` [n] for a target, R' or (normals, offsets), around the images ``x``."""

    method: str
    x: Tensor
    target: tuple[Tensor, ...]
    radii: Tensor


class Examined:
    """An encoder, and what methods certified of it: the claims that an attack has to refute.

    All claims are attacked together, balls and margins apart: an attack costs by its steps.
    """

    def __init__(self, onnx_file: bytes) -> None:
        self.network = load_network(onnx_file)
        self.constants = certified_constants(self.network)
        self._file = onnx_file
        self._balls: list[Claim] = []
        self._margins: list[Claim] = []

    def drawn(self, images: int, seed: int, scales: tuple[float, ...] = SCALES) -> Questions:
        """Questions about random images."""
        return Questions.drawn(self.network, self._constant, images, seed, scales)

    @property
    def _constant(self) -> float:
        """Of all images or, if there is none of use, of those about a grey one."""
        if not self.network.coupled:
            return self.constants.lipschitz
        grey = torch.full((1, *self.network.input_shape), 0.5, dtype=torch.float64)
        return Region.around(self.network, grey, 0.0).constant

    def ask(
        self,
        asked: Questions,
        balls: Iterable[Method] = Method,
        margins: Iterable[MarginMethod] = MarginMethod,
    ) -> None:
        """Certify ``asked`` by every method."""
        for method in balls:
            radii = ball_radii(self.network, self.constants, asked, method)
            target = (asked.feature_radii,)
            self._balls.append(Claim(f"ball {method.value}", asked.x, target, radii))
        for row_method in margins:
            radii = margin_radii(self.network, self.constants, asked, row_method)
            rows = (asked.normals, asked.offsets)
            self._margins.append(Claim(f"margins {row_method.value}", asked.x, rows, radii))

    def ask_sets(self, asked: Questions, seed: int) -> None:
        """Three sets of margins at once; claimed are the rows and the ball of the best one."""
        random = np.random.default_rng(seed)
        spread = torch.from_numpy(random.uniform(0.3, 3, (len(asked.x), 3)))  # [n, s]
        shape = (len(asked.x), 3, ROWS, self.network.feature_dim)
        normals = asked.normals[:, None] + 0.3 * torch.from_numpy(random.normal(size=shape))
        offsets = asked.offsets[:, None] * spread[:, :, None]  # [n, s, m]
        within = asked.feature_radii[:, None] * spread.flip(1)  # [n, s]
        found = certify_margins(
            self.network, self.constants, asked.x, normals, offsets, valid_within=within
        )
        radii = torch.tensor([answer.radius for answer in found], dtype=torch.float64)
        won = torch.arange(len(found)), torch.tensor([answer.margin_set for answer in found])
        self._margins.append(
            Claim("sets of margins, rows", asked.x, (normals[won], offsets[won]), radii)
        )
        self._balls.append(Claim("sets of margins, ball", asked.x, (within[won],), radii))

    def attacked(self, effort: Effort, twin: Network | None = None) -> Audit:
        """The outcome of attacks on every claim; ``twin``: the network that the attacker has."""
        model = onnx.load_from_string(self._file)
        result = Audit(encoders=1, operators={node.op_type for node in model.graph.node})
        attacker = twin or self.network
        encoder = attacker if effort.dtype == torch.float64 else attacker.folded_float32
        ball = partial(attack_balls, encoder, Served(self._file), effort=effort)
        margin = partial(attack_margins, encoder, Served(self._file), effort=effort)
        _attack(result, self._balls, ball)
        _attack(result, self._margins, margin)
        return result


def _attack(result: Audit, claims: Sequence[Claim], attack: Callable[..., Verdict]) -> None:
    """Attack ``claims`` in one batch, and record what became of each."""
    if not claims:
        return
    columns = zip(*((claim.x, *claim.target, claim.radii) for claim in claims), strict=True)
    verdict, start = attack(*(torch.cat(column) for column in columns)), 0
    for claim in claims:
        part = slice(start, start + len(claim.radii))
        result.record(claim.method, verdict.of(part))
        start = part.stop


def audit(
    onnx_file: bytes,
    *,
    images: int = 4,
    seed: int = 0,
    balls: Iterable[Method] = Method,
    margins: Iterable[MarginMethod] = MarginMethod,
    effort: Effort | None = None,
    twin: Network | None = None,
) -> Audit:
    """Ask about ``images`` random images at every scale, and attack.

    ``twin``: the network that the attacker works on; by default the one that is certified.
    """
    examined = Examined(onnx_file)
    examined.ask(examined.drawn(images, seed), balls, margins)
    return examined.attacked(effort or Effort(seed=seed), twin)


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
