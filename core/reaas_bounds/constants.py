"""The constants of an encoder that its manifest states and every certificate relies on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from reaas_bounds.bounds.lipschitz import RELATIVE_ROUNDING, lipschitz_constant
from reaas_bounds.bounds.region import Region
from reaas_bounds.errors import InvalidQueryError
from reaas_bounds.graph.network import Network, load_network
from reaas_bounds.graph.nodes import Affine
from reaas_bounds.rounding import float32_error

# Of the unit ball, with room for what float32 makes of its border.
_DIAMETER = 2.01


@dataclass(frozen=True)
class CertifiedConstants:
    """What holds for every image, once per model (and per client's input size).

    Attributes:
        lipschitz: ``||f(x) - f(y)||_2 <= lipschitz * ||x - y||_2``, rounding included. Of networks
            with products of activations: for images that a service takes (``ACCEPTED``).
        method: ``averaged-operators`` or ``layer-product``; ``accepted-range`` with such products.
        layer_norms: certified norm of each folded affine map, in graph order.
        relative_rounding: relative margin by which ``lipschitz`` was widened.
        float32_slope, float32_offset: ``||feature_float32(x) - f(x)||_2 <= slope ||x||_2 +
            offset``, with the image x in [0,1] units at the network's own input size.
        before: where the feature is divided by its length, those of what is divided: the others are
            true, but of no use.
    """

    lipschitz: float
    method: str
    layer_norms: tuple[float, ...]
    relative_rounding: float
    float32_slope: float
    float32_offset: float
    before: CertifiedConstants | None = None

    @property
    def undivided(self) -> CertifiedConstants:
        """``before``, which must be there.

        Raises:
            InvalidQueryError: these are not the constants of an encoder with a division.
        """
        if self.before is None:
            raise InvalidQueryError(
                "constants", "are not those of the network: no division in them"
            )
        return self.before

    def float32_error(self, norm: float) -> float:
        """Bound of ``||feature_float32(x) - f(x)||_2`` for ``||x||_2 = norm``."""
        return self.float32_slope * norm + self.float32_offset


def certified_constants(network: Network | bytes) -> CertifiedConstants:
    """Certified constants of an encoder given as a network or as ONNX bytes; deterministic.

    Takes seconds for a small encoder; norms are remembered in the network, so that the same
    model at another input size (``Network.with_input``) costs little more.

    Raises:
        InvalidModelError, UnsupportedOperatorError: as ``load_network``.
    """
    if isinstance(network, bytes):
        network = load_network(network)
    if network.least_length is not None:
        return _divided(certified_constants(network.before), network.least_length)
    if network.coupled:
        return _coupled(network)
    constant = lipschitz_constant(network.folded, network.norms)
    slope, offset = float32_error(network)
    return CertifiedConstants(
        lipschitz=constant.value,
        method=constant.method,
        layer_norms=constant.layer_norms,
        relative_rounding=RELATIVE_ROUNDING,
        float32_slope=slope,
        float32_offset=offset,
    )


def _coupled(network: Network) -> CertifiedConstants:
    """Constants on the box of accepted images.

    Both are cut off where they would be of no use anyway. Two float32 images differ by ``2^-149``
    at least, and two float32 features by less than ``2^129 sqrt(d)``: what is served cannot have
    a larger constant than their quotient, nor be further off.
    """
    region = Region.accepted(network)
    nodes, side = network.folded.nodes, math.sqrt(network.feature_dim)
    norms = tuple(network.norms.of(node.linear) for node in nodes if isinstance(node, Affine))
    slope, offset = float32_error(network)
    return CertifiedConstants(
        lipschitz=_at_most(region.constant * (1 + RELATIVE_ROUNDING), side * 2.0**279),
        method="accepted-range",
        layer_norms=norms,
        relative_rounding=RELATIVE_ROUNDING,
        float32_slope=slope,
        float32_offset=_at_most(offset, side * 2.0**130),
    )


def _at_most(bound: float, limit: float) -> float:
    """``bound``, or ``limit`` where that is smaller or the bound no number."""
    return bound if bound < limit else limit


def _divided(before: CertifiedConstants, least: float) -> CertifiedConstants:
    """Of ``z / max(||z||, least)``: its constant is ``1 / least``, and no two lie further than 2
    apart, whatever was rounded.
    """
    lipschitz = before.lipschitz / least * (1 + RELATIVE_ROUNDING)
    return replace(
        before, lipschitz=lipschitz, float32_slope=0.0, float32_offset=_DIAMETER, before=before
    )
