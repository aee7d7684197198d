"""What is asked of the engine and what it answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from reaas_bounds.device import CPU
from reaas_bounds.errors import InvalidQueryError
from reaas_bounds.graph.network import Network


class Method(Enum):
    """The sound bounds that can certify a radius; AUTO is the best of them."""

    AUTO = "auto"
    LIPSCHITZ = "lipschitz"
    LOCAL = "local"
    CROWN = "crown"
    CROWN_JOINT = "crown_joint"
    IBP = "ibp"


# Radii that differ by less are hardly different float64 numbers, and no bound is so exact.
SMALLEST_TOLERANCE = 1e-12


@dataclass(frozen=True)
class SearchOptions:
    """How hard to look for the largest radius; the answer is certified whatever they are."""

    max_steps: int = 16
    """Bound evaluations per pair and method: enough to reach the tolerance from a start that is
    wrong by a factor of 100."""

    relative_tolerance: float = 0.01
    """Stop when upper <= (1 + tolerance) * lower: 1% of a radius is far below what the bounds
    themselves lose, and every halving costs one more evaluation."""

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise InvalidQueryError("max_steps", f"must be at least 1, got {self.max_steps}")
        if not SMALLEST_TOLERANCE <= self.relative_tolerance < 1:
            raise InvalidQueryError(
                "relative_tolerance",
                f"must be in [{SMALLEST_TOLERANCE:g}, 1), got {self.relative_tolerance}",
            )


@dataclass(frozen=True)
class CertifiedRadius:
    """A certified image-space radius of one (image, feature radius) pair.

    Attributes:
        radius: every x' with ``||x' - x||_2 < radius`` (client's pixels, [0,1] units) has
            ``||feature(x') - feature(x)||_2 <= R'``, for features computed in float32.
        method: the bound that certified it.
        upper: smallest radius at which that bound failed, for CROWN and IBP in float32: it tells
            how far the search came, and nothing is certified by it.
        steps: bound evaluations spent on this pair, over all methods tried.
        converged: the search reached its tolerance (or the answer is a closed form).
    """

    radius: float
    method: Method
    upper: float
    steps: int
    converged: bool


def check_query(network: Network, inputs: Tensor, feature_radii: Tensor) -> None:
    """Refuse inputs [n, C, h, w] and radii [n] that are not of this network, or not numbers.

    Raises:
        InvalidQueryError: wrong shape, NaN or infinite entries, a negative radius.
    """
    shape = network.input_shape
    if inputs.dim() != 4 or tuple(inputs.shape[1:]) != tuple(shape):
        raise InvalidQueryError(
            "inputs", f"must be [n, {', '.join(map(str, shape))}], got {list(inputs.shape)}"
        )
    if feature_radii.shape != inputs.shape[:1]:
        raise InvalidQueryError(
            "feature_radii", f"must be [{len(inputs)}], got {list(feature_radii.shape)}"
        )
    if inputs.dtype != torch.float64 or feature_radii.dtype != torch.float64:
        raise InvalidQueryError("inputs", "images and radii must be float64")
    if inputs.device != CPU or feature_radii.device != CPU:
        raise InvalidQueryError("inputs", "must be on the CPU, wherever the network is")
    if not bool(inputs.isfinite().all()):
        raise InvalidQueryError("inputs", "hold values that are not finite")
    if not bool((feature_radii.isfinite() & (feature_radii >= 0)).all()):
        raise InvalidQueryError("feature_radii", "must be finite and not negative")


def rounded_down(radius: float, digits: int = 12) -> float:
    """``radius`` rounded down to 12 significant digits.

    Batched float64 products may differ in their last bit with the size of the batch; what is
    left of it in a radius is cut off here, so that a query's answer does not depend on what else
    is in its batch.
    """
    if not radius > 0.0:
        return 0.0
    if math.isinf(radius):
        return radius
    step = 10.0 ** (math.floor(math.log10(radius)) - digits + 1)
    return math.floor(radius * (1 - 2.0**-50) / step) * step * (1 - 2.0**-52)
