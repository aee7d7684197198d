"""What a query asks of F2I: the region of features in which the client's label holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from reaas_bounds import (
    CertifiedConstants,
    CertifiedMargin,
    CertifiedRadius,
    MarginMethod,
    MarginOptions,
    Method,
    Network,
    SearchOptions,
    certify_ball,
    certify_margins,
)

Stop = Callable[[], bool]
Answer = CertifiedRadius | CertifiedMargin
# Their float32 errors are measured so many at a time; more would only make others wait.
CLOSED_FORMS_PER_JOB = 64


@dataclass(frozen=True, eq=False)
class Ball:
    """A ball of radius R' around each feature."""

    radii: NDArray[np.float64]
    """[n], R' of each image."""
    method: Method
    options: SearchOptions

    def part(self, images: slice) -> Ball:
        """The target of some of the images."""
        return Ball(self.radii[images], self.method, self.options)

    @property
    def slowest(self) -> Method:
        """The method whose steps take longest: AUTO's longest steps are CROWN's."""
        return Method.CROWN if self.method is Method.AUTO else self.method

    @property
    def rows(self) -> int:
        """Rows that a bound pulls back together; 0: one for each number of a feature."""
        return 0

    def images_per_job(self, together: int) -> int:
        """How many images to bound together; `together`: what suits intervals.

        Of a search each image is worked on alone, so that a larger job would only make others wait.
        """
        match self.method:
            case Method.LIPSCHITZ:
                return CLOSED_FORMS_PER_JOB
            case Method.IBP:
                return together
            case _:
                return 1

    def certify(
        self, network: Network, constants: CertifiedConstants, images: torch.Tensor, stop: Stop
    ) -> list[CertifiedRadius]:
        """Radii of images [n, c, h, w] (see `reaas_bounds.certify_ball`)."""
        radii = torch.from_numpy(self.radii)  # [n]
        return certify_ball(network, constants, images, radii, self.method, self.options, stop=stop)


@dataclass(frozen=True, eq=False)
class Margins:
    """Sets of half-spaces ``a_i . (z' - z) > -m_i`` around each feature, each within a ball."""

    normals: NDArray[np.float64]
    """[n, s, m, d], a_i of each set."""
    offsets: NDArray[np.float64]
    """[n, s, m], m_i of each set."""
    within: NDArray[np.float64]
    """[n, s], radius of the ball in which a set says something; infinity: everywhere."""
    method: MarginMethod
    options: MarginOptions

    def part(self, images: slice) -> Margins:
        """The target of some of the images."""
        parts = (self.normals[images], self.offsets[images], self.within[images])
        return Margins(*parts, self.method, self.options)

    @property
    def slowest(self) -> MarginMethod:
        """The method whose steps take longest: AUTO's are ENVELOPE's."""
        return MarginMethod.ENVELOPE if self.method is MarginMethod.AUTO else self.method

    @property
    def rows(self) -> int:
        """Rows that a bound pulls back together: those of the largest set."""
        return int(self.normals.shape[2])

    def images_per_job(self, together: int) -> int:
        """How many images to bound together.

        The closed form is quickest together. Of a search each image is worked on alone, so that a
        larger job would only make others wait.
        """
        return CLOSED_FORMS_PER_JOB if self.method is MarginMethod.LIPSCHITZ else 1

    def certify(
        self, network: Network, constants: CertifiedConstants, images: torch.Tensor, stop: Stop
    ) -> list[CertifiedMargin]:
        """Radii of images [n, c, h, w] (see `reaas_bounds.certify_margins`)."""
        return certify_margins(
            network,
            constants,
            images,
            torch.from_numpy(self.normals),  # [n, s, m, d]
            torch.from_numpy(self.offsets),  # [n, s, m]
            self.method,
            self.options,
            stop=stop,
            valid_within=torch.from_numpy(self.within),  # [n, s]
        )


@dataclass(frozen=True, eq=False)
class Question:
    """Queries of one image size: where the label holds, how to certify it, and for how long."""

    images: NDArray[np.float32]
    """[n, h, w, c] in [0,1] units, as the encoder service decodes them."""
    target: Ball | Margins

    def part(self, images: slice) -> Question:
        """The same question about some of the images."""
        return Question(self.images[images], self.target.part(images))
