"""What is asked of the engine about margins, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from reaas_bounds.errors import InvalidQueryError
from reaas_bounds.graph.network import Network
from reaas_bounds.query import check_query


class MarginMethod(Enum):
    """The sound bounds that can certify margins; AUTO is the best of them."""

    AUTO = "auto"
    LIPSCHITZ = "lipschitz"
    ENVELOPE = "envelope"


@dataclass(frozen=True)
class MarginOptions:
    """How hard to look for the largest radius; the answer is certified whatever they are."""

    steps: int = 4
    """Optimisation steps per envelope: each costs about two network evaluations, and the first
    four bring most of what any number brings."""

    max_envelopes: int = 64
    """Envelopes per image: about four per row that competes for the smallest radius, and rarely
    more than three rows do."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InvalidQueryError("steps", f"must not be negative, got {self.steps}")
        if self.max_envelopes < 1:
            raise InvalidQueryError(
                "max_envelopes", f"must be at least 1, got {self.max_envelopes}"
            )


@dataclass(frozen=True)
class CertifiedMargin:
    """A certified image-space radius of one image and its margins.

    Attributes:
        radius: every x' with ``||x' - x||_2 < radius`` (client's pixels, [0,1] units) has
            ``a_i . (feature(x') - feature(x)) > -m_i`` for all rows i, for features computed in
            float32; infinite if all rows are zero and their margins positive.
        method: the bound that certified it.
        row: the row that limits it.
        envelopes: quadratic envelopes spent on this image.
        converged: the search was neither stopped nor cut off.
    """

    radius: float
    method: MarginMethod
    row: int
    envelopes: int
    converged: bool


def check_margins(network: Network, inputs: Tensor, normals: Tensor, offsets: Tensor) -> None:
    """Refuse inputs [n, C, h, w], normals [n, m, d], offsets [n, m] that do not fit, or NaN.

    Raises:
        InvalidQueryError: names the argument at fault.
    """
    check_query(network, inputs, inputs.new_zeros(inputs.shape[:1]))
    count, dim = len(inputs), network.feature_dim
    if normals.dim() != 3 or len(normals) != count or normals.shape[2] != dim:
        raise InvalidQueryError(
            "normals", f"must be [{count}, m, {dim}], got {list(normals.shape)}"
        )
    if normals.shape[1] < 1:
        raise InvalidQueryError("normals", "hold no row")
    if offsets.shape != normals.shape[:2]:
        raise InvalidQueryError(
            "offsets", f"must be {list(normals.shape[:2])}, got {list(offsets.shape)}"
        )
    for name, values in (("normals", normals), ("offsets", offsets)):
        if values.dtype != torch.float64:
            raise InvalidQueryError(name, f"must be float64, got {values.dtype}")
        if not bool(values.isfinite().all()):
            raise InvalidQueryError(name, "hold values that are not finite")
