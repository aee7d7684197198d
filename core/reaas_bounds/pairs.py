"""Questions about balls: images, and how far the feature of each may move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.condensed import condensed
from reaas_bounds.constants import CertifiedConstants
from reaas_bounds.graph.network import Network
from reaas_bounds.query import rounded_down
from reaas_bounds.rounding import float32_error_at, within_range


@dataclass(frozen=True, eq=False)
class Pairs:
    """(Image, feature radius) pairs with what their features may move.

    ``inputs`` [n, C, h, w], on the network's device; ``allowance`` [n] = R' less the float32 error
    of both features at r = 0; every unit of r takes ``slope`` more. ``lipschitz`` [n]: the radius
    that the constant alone certifies; ``constant``: the constant itself.
    """

    network: Network
    inputs: Tensor
    allowance: Tensor
    lipschitz: Tensor
    constant: float
    slope: float

    @classmethod
    def of(
        cls,
        network: Network,
        constants: CertifiedConstants,
        inputs: Tensor,
        feature_radii: Tensor,
    ) -> Pairs:
        """Pairs of ``inputs`` [n, C, h, w] and R' = ``feature_radii`` [n]."""
        allowance = feature_radii - 2 * float32_error_at(network, inputs)  # [n]
        constant, slope = constants.lipschitz, constants.float32_slope
        # What the constant alone grants as far as images go: nobody looks further.
        reach = torch.tensor(within_range(network, inputs), dtype=torch.float64)  # [n]
        allowance = torch.minimum(allowance, (constant + slope) * reach)
        radii = [rounded_down(a / (constant + slope)) for a in allowance.tolist()]
        closed = torch.tensor(radii, dtype=torch.float64)
        return cls(network, inputs.to(network.device), allowance, closed, constant, slope)

    def condensed(self) -> Pairs:
        """The same pairs about what a resize in front leaves of the images (``Condensed``)."""
        small = condensed(self.network)
        if small is None:
            return self
        inputs, loss = small.at(self.inputs.cpu())
        inputs = inputs.to(small.network.device)
        allowance = self.allowance - loss
        return replace(self, network=small.network, inputs=inputs, allowance=allowance)

    def allowed(self, radii: Tensor) -> Tensor:
        """How far the exact feature may move within ``radii`` [n]."""
        return self.allowance - self.slope * radii

    def select(self, pairs: Sequence[int]) -> Pairs:
        """Some of the pairs."""
        kept = torch.tensor(pairs, dtype=torch.long)
        inputs = self.inputs[kept.to(self.inputs.device)]
        parts = (inputs, self.allowance[kept], self.lipschitz[kept])
        return Pairs(self.network, *parts, self.constant, self.slope)
