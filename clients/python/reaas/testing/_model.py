"""Linear encoders, of which everything is known."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reaas._model import Method, ModelRef
from reaas.v1 import model_pb2, tensor_pb2

# Rounding a float64 feature to float32: half a unit in the last place of each coordinate, and the
# smallest normal number where a coordinate is nearly 0. Doubled, for the float64 arithmetic.
_ROUNDING = 2.0**-23
_UNDERFLOW = 2.0**-100
# Answered where nothing limits a radius.
_LARGEST_RADIUS = 1e9


@dataclass(frozen=True, eq=False)
class MarginAnswer:
    """Radii [n], the sets [n] that certified them, whether their balls [n] limit them."""

    radius: NDArray[np.float64]
    margin_set: NDArray[np.int64]
    limited_by_ball: NDArray[np.bool_]

    def each(self) -> Iterator[tuple[float, int, bool]]:
        """(radius, set, by ball) of each input."""
        parts = (self.radius, self.margin_set, self.limited_by_ball)
        return zip(*(part.tolist() for part in parts), strict=True)


@dataclass(frozen=True)
class FakeModel:
    """f(x) = W x with W = lipschitz * (orthonormal rows): the Lipschitz constant is exact."""

    name: str = "fake"
    version: str = "1"
    shape: tuple[int, ...] = (4, 4, 3)
    """Of one input: (height, width, channels)."""
    feature_dim: int = 8
    """d, at most the number of elements of an input."""
    lipschitz: float = 2.0
    seed: int = 0

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """W, [d, h*w*c]."""
        rng = np.random.default_rng(self.seed)
        rows, _ = np.linalg.qr(rng.normal(size=(math.prod(self.shape), self.feature_dim)))
        weights: NDArray[np.float64] = self.lipschitz * rows.T
        return weights

    @cached_property
    def ref(self) -> ModelRef:
        """Name, version and the digest of W."""
        digest = hashlib.sha256(self.weights.tobytes()).hexdigest()
        return ModelRef(self.name, self.version, f"sha256:{digest}")

    def encode(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Features, float32 [n, d], of images [n, h, w, c] in [0,1]."""
        flat = images.reshape(len(images), -1).astype(np.float64)  # [n, h*w*c]
        # A fixed order of summation: the same bits for an input whatever else is in its batch.
        features: NDArray[np.float32] = np.einsum("ni,di->nd", flat, self.weights).astype(
            np.float32
        )
        return features

    def radius(
        self, images: NDArray[Any], feature_radii: NDArray[np.float64], method: Method
    ) -> NDArray[np.float64]:
        """Certified radii R, [n]. Deterministic.

        A ball of radius r maps onto one of radius L r, so R'/L is exact up to float32. CROWN and
        IBP bound each of the d coordinates by L r, so they certify R'/(L sqrt(d)).
        """
        loose = method in (Method.CROWN, Method.IBP)
        factor = math.sqrt(self.feature_dim) if loose else 1.0
        norms = np.linalg.norm(images.reshape(len(images), -1).astype(np.float64), axis=1)  # [n]
        slope = self.lipschitz * _ROUNDING
        room = feature_radii - 2 * slope * norms - 2 * _UNDERFLOW
        radii: NDArray[np.float64] = np.maximum(0.0, room / (factor * self.lipschitz + slope))
        return radii * (1 - 1e-12)

    def margin_radius(
        self,
        images: NDArray[Any],
        normals: NDArray[np.float64],
        offsets: NDArray[np.float64],
        within: NDArray[np.float64],
    ) -> MarginAnswer:
        """Certified radii R of margins a [n, s, m, d], m [n, s, m], rho [n, s]. Deterministic.

        a . W delta is smallest along -W'a: min_i m_i / ||W'a_i|| is exact up to float32. The ball
        of a set is as in `radius`.
        """
        norms = np.linalg.norm(images.reshape(len(images), -1).astype(np.float64), axis=1)  # [n]
        slope, sizes = self.lipschitz * _ROUNDING, np.linalg.norm(normals, axis=3)  # [n, s, m]
        room = offsets - sizes * (2 * slope * norms[:, None, None] + 2 * _UNDERFLOW)
        reach = np.linalg.norm(normals @ self.weights, axis=3) + sizes * slope  # [n, s, m]
        limited = np.maximum(0.0, room) / np.where(reach > 0, reach, 1.0)
        free = np.where(offsets > 0, np.inf, 0.0)
        rows = np.where(reach > 0, limited, free).min(axis=2) * (1 - 1e-12)  # [n, s]
        balls = [self.radius(images, rho, Method.LIPSCHITZ) for rho in within.T]
        ball = np.stack(balls, axis=1)  # [n, s]
        found = np.minimum(rows, ball)
        best, each = found.argmax(axis=1), np.arange(len(found))
        by_ball = (ball < rows)[each, best]
        return MarginAnswer(np.minimum(found[each, best], _LARGEST_RADIUS), best, by_ball)

    def info(self, latest: bool) -> model_pb2.ModelInfo:
        """As ListModels tells it."""
        unit = model_pb2.ValueRange(min=0.0, max=1.0)
        return model_pb2.ModelInfo(
            model=model_pb2.ModelRef(name=self.name, version=self.version, digest=self.ref.digest),
            description=f"Linear test encoder with L = {self.lipschitz:g}.",
            input=model_pb2.InputSpec(
                kind="image",
                shape=self.shape,
                dtypes=[tensor_pb2.DATA_TYPE_UINT8, tensor_pb2.DATA_TYPE_FLOAT32],
                value_range=unit,
                accepted_range=model_pb2.ValueRange(min=-16.0, max=16.0),
            ),
            feature_dim=self.feature_dim,
            constants=model_pb2.CertifiedConstants(
                lipschitz=self.lipschitz * (1 + 1e-12),
                method="orthonormal-rows",
                relative_rounding=1e-12,
                float32_error_slope=self.lipschitz * _ROUNDING,
                float32_error_offset=_UNDERFLOW,
            ),
            latest=latest,
            manifest_json=json.dumps({"schema": 1, "training": {"seed": self.seed}}),
        )
