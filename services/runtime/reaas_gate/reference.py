"""What the engine says of images: their exact features, and how far float32 may be from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from reaas_bounds import Network
from reaas_bounds.rounding import float32_error_at
from torch import Tensor

# Float32 features are seldom more than a few times further from the exact ones than those of the
# engine's own pass in float32, and seldom more than 1e-5 of their length; mistakes are further. The
# certified error of deep encoders is far larger: by itself it would pass anything.
_TIMES_OWN, _OF_LENGTH, _LEAST = 100.0, 1e-3, 1e-30
# Float32 rounding of a division by a length, a unit in the last place for each of its terms.
_UNIT = 2.0**-23


@dataclass(frozen=True, eq=False)
class Reference:
    """Of n images: ``features`` [n, d], exact to float64; ``certified`` [n], the certified float32
    error, infinite where nothing is certified; ``own`` [n], the error of the engine's float32 pass.
    """

    features: NDArray[np.float64]
    certified: NDArray[np.float64]
    own: NDArray[np.float64]

    @classmethod
    def of(cls, network: Network, images: NDArray[np.float32]) -> Reference:
        """Of images [n, C, H, W]."""
        x = torch.from_numpy(images.astype(np.float64))
        features = network.forward(x.to(network.device)).cpu()
        rounded = network.executed_float32[0].forward(x.float()).double()
        if network.least_length is not None:
            length = rounded.norm(dim=1, keepdim=True).clamp_min(network.least_length)
            rounded = rounded / length
        own = (rounded - features).norm(dim=1).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return cls(features.numpy(), _certified(network, x).numpy(), own.numpy())

    def joined(self, other: Reference) -> Reference:
        """Of the images of both."""
        pairs = zip(self._arrays(), other._arrays(), strict=True)
        return Reference(*(np.concatenate(pair) for pair in pairs))

    def limits(self) -> NDArray[np.float64]:
        """How far served features may be from ``features``, [n].

        The certified error, or less where it is beyond anything that rounding does.
        """
        lengths = np.linalg.norm(self.features, axis=1)
        usual = np.max([_TIMES_OWN * self.own.max(), _OF_LENGTH * lengths.max(), _LEAST])
        limits: NDArray[np.float64] = np.minimum(self.certified, usual)
        return limits

    def _arrays(self) -> tuple[NDArray[np.float64], ...]:
        return self.features, self.certified, self.own


def _certified(network: Network, x: Tensor) -> Tensor:
    """Certified float32 error [n] of the served features of ``x``."""
    if network.least_length is None:
        return float32_error_at(network, x)
    error = float32_error_at(network.before, x)
    length = network.before.forward(x.to(network.device)).cpu().norm(dim=1)
    # z / max(||z||, least) moves by at most twice as much as z, in units of that length.
    length = length.clamp_min(network.least_length)
    turned: Tensor = 2 * error / length + (network.feature_dim + 8) * _UNIT
    return turned.nan_to_num(nan=torch.inf, posinf=torch.inf)
