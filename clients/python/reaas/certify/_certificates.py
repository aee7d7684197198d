"""What a certification returns, whatever the method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ABSTAIN = -1
"""The label of an input on which a smoothed classifier makes no statement; its radius is 0."""


@dataclass(frozen=True, eq=False)
class Certificates:
    """Labels and certified L2 radii of a batch of inputs.

    Statement, for each input separately: with a probability of at least
    `1 - failure_probability` over the certifier's own randomness, the classifier's label is
    `labels[i]` everywhere within `radii[i]` of the input. The space and units of the radius are
    those of the certified input: feature space for `certify_ibp`, `certify_crown` and
    `certify_smoothed`, image space for votes on noisy images.
    """

    labels: NDArray[np.int64]
    """[n], class indices, or `ABSTAIN`."""
    radii: NDArray[np.float64]
    """[n], 0 where nothing is certified."""
    failure_probability: float = 0.0
    """Per input; 0 for a deterministic certificate."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """[n], where the smoothed classifier abstains."""
        return np.asarray(self.labels == ABSTAIN)
