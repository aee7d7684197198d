"""What is asked of the engine about margins, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor

from reaas_bounds.errors import InvalidQueryError
from reaas_bounds.graph.network import Network
from reaas_bounds.query import Method, SearchOptions, check_query


class MarginMethod(Enum):
    """The sound bounds of a row; AUTO is the best of them."""

    AUTO = "auto"
    LIPSCHITZ = "lipschitz"
    ENVELOPE = "envelope"
    CROWN = "crown"
    IBP = "ibp"


@dataclass(frozen=True)
class MarginOptions:
    """How hard to look for the largest radius; the answer is certified whatever they are."""

    steps: int = 4
    """Optimisation steps per envelope: each costs about two network evaluations, and the first
    four bring most of what any number brings."""

    max_envelopes: int = 64
    """Envelopes per image: about four per row that competes for the smallest radius, and rarely
    more than three rows do."""

    search: SearchOptions = field(default_factory=SearchOptions)
    """Of CROWN and IBP, which have no closed form in the radius, for each set, and of LOCAL."""

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
            ``a_i . (feature(x') - feature(x)) > -m_i`` for all rows i of the set, and its feature
            within the set's ball, for features computed in float32; infinite if all rows are zero,
            their margins positive, and the set holds everywhere.
        method: the bound that certified what limits the radius, a row or the ball.
        margin_set: the set, from 0; the first of those that are as good.
        row: the row that limits the radius, the first of several; None if the ball does.
        steps: envelopes, or evaluations of a bound, spent on this image.
        converged: the search was neither stopped nor cut off.
    """

    radius: float
    method: MarginMethod | Method
    margin_set: int
    row: int | None
    steps: int
    converged: bool

    @property
    def limited_by_ball(self) -> bool:
        """Whether the ball of the set limits the radius, and not a row."""
        return self.row is None


@dataclass(frozen=True, eq=False)
class MarginSets:
    """Checked margins: normals a [n, s, m, d], offsets m [n, s, m], radii rho [n, s] of the balls
    that they hold in (infinity: everywhere)."""

    normals: Tensor
    offsets: Tensor
    within: Tensor

    @classmethod
    def of(
        cls,
        network: Network,
        inputs: Tensor,
        normals: Tensor,
        offsets: Tensor,
        within: Tensor | None,
    ) -> MarginSets:
        """From normals [n, m, d] (one set) or [n, s, m, d], offsets, and radii [n, s] or None.

        Raises:
            InvalidQueryError: shapes that do not fit, NaN; names the argument at fault.
        """
        check_query(network, inputs, inputs.new_zeros(inputs.shape[:1]))
        count, dim = len(inputs), network.feature_dim
        rank = normals.dim()
        if rank not in (3, 4) or len(normals) != count or normals.shape[-1] != dim:
            wanted = f"[{count}, m, {dim}] or [{count}, s, m, {dim}]"
            raise InvalidQueryError("normals", f"must be {wanted}, got {list(normals.shape)}")
        if normals.numel() == 0 and count > 0:
            raise InvalidQueryError("normals", "hold no row")
        _check("normals", normals, normals.shape)
        _check("offsets", offsets, normals.shape[:-1])
        if rank == 3:
            normals, offsets = normals[:, None], offsets[:, None]
        if within is None:
            within = torch.full(normals.shape[:2], torch.inf, dtype=torch.float64)
        _check("valid_within", within, normals.shape[:2])
        for name, values in (("normals", normals), ("offsets", offsets)):
            if not bool(values.isfinite().all()):
                raise InvalidQueryError(name, "hold values that are not finite")
        if not bool((within > 0).all()):
            raise InvalidQueryError("valid_within", "must be above 0")
        return cls(normals, offsets, within)


def _check(name: str, values: Tensor, shape: torch.Size) -> None:
    if values.shape != shape:
        raise InvalidQueryError(name, f"must be {list(shape)}, got {list(values.shape)}")
    if values.dtype != torch.float64:
        raise InvalidQueryError(name, f"must be float64, got {values.dtype}")
