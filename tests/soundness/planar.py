"""An exact oracle: piecewise linear networks of two pixels, every activation pattern enumerated.

On the piece of one pattern the change of the feature is affine in the perturbation, so its norm
(or its product with a normal) is convex there and largest at an extreme point of piece and disc: a
corner, where two lines of zero pre-activation meet, a crossing of such a line and the circle, or a
point of the circle where the value of the piece is stationary. All of these are listed, and the
network itself is evaluated there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tests.soundness.draft import Draft

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Planar:
    """Layers ``W h + b`` with an activation of slopes ``alpha`` (below zero) and 1 between them."""

    weights: tuple[Float, ...]
    biases: tuple[Float, ...]
    alpha: float

    @classmethod
    def drawn(cls, widths: tuple[int, ...], alpha: float, seed: int) -> Planar:
        """Random weights, exactly as float32 holds them; ``widths`` without the two pixels."""
        random = np.random.default_rng(seed)
        sizes = [(o, i) for i, o in itertools.pairwise((2, *widths))]
        weights = [random.normal(size=size).astype(np.float32) for size in sizes]
        biases = [0.5 * random.normal(size=size[0]).astype(np.float32) for size in sizes]
        return cls(
            tuple(w.astype(np.float64) for w in weights),
            tuple(b.astype(np.float32).astype(np.float64) for b in biases),
            alpha,
        )

    @property
    def onnx(self) -> bytes:
        """The same network as a file with an input [N, 1, 1, 2]."""
        draft = Draft((1, 1, 2), 0)
        draft.op("Flatten")
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index > 0:
                kind = {0.0: "Relu", -1.0: "Abs"}.get(self.alpha, "LeakyRelu")
                draft.op(kind, **({"alpha": self.alpha} if kind == "LeakyRelu" else {}))
            draft.op("Gemm", weight, bias, transB=1)
        return draft.finish()

    def forward(self, x: Float) -> Float:
        """Features [n, d] of points [n, 2]."""
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = np.where(x > 0, x, self.alpha * x) if index > 0 else x
            x = x @ weight.T + bias
        return x

    @cached_property
    def pieces(self) -> list[tuple[Float, Float]]:
        """Jacobian [d, 2] and value at the origin [d] for every pattern, realised or not."""
        found = [(self.weights[0], self.biases[0])]
        for weight, bias in zip(self.weights[1:], self.biases[1:], strict=True):
            patterns = itertools.product([self.alpha, 1.0], repeat=weight.shape[1])
            slopes = [np.array(pattern) for pattern in patterns]
            found = [
                (weight @ (slope[:, None] * jacobian), weight @ (slope * value) + bias)
                for jacobian, value in found
                for slope in slopes
            ]
        return found

    @cached_property
    def lines(self) -> tuple[Float, Float]:
        """All lines ``a . x + c = 0`` at which some neuron may turn: a [m, 2], c [m]."""
        hidden = [
            Planar(self.weights[:depth], self.biases[:depth], self.alpha)
            for depth in range(1, len(self.weights))
        ]
        normals = np.concatenate([jacobian for part in hidden for jacobian, _ in part.pieces])
        return normals, np.concatenate([value for part in hidden for _, value in part.pieces])

    def largest_move(self, x: Float, radius: float) -> float:
        """``max ||f(x') - f(x)||_2`` over ``||x' - x||_2 <= radius``, for x [2]."""
        start = self.forward(x[None])
        points = [self._corners(x, radius), self._crossings(x, radius)]
        points += [
            stationary(radius * jacobian, jacobian @ x + value - start[0])
            for jacobian, value in self.pieces
        ]
        moved = self.forward(_within(x, np.concatenate(points), radius)) - start
        return float(np.linalg.norm(moved, axis=1).max())

    def smallest_margin(self, x: Float, radius: float, normals: Float, offsets: Float) -> float:
        """``min_i m_i + a_i . (f(x') - f(x))`` over the same disc; normals [m, d], offsets [m]."""
        downhill = -np.concatenate([normals @ jacobian for jacobian, _ in self.pieces])  # [q, 2]
        sizes = np.linalg.norm(downhill, axis=1, keepdims=True)
        steepest = downhill / np.maximum(sizes, 1e-300)
        points = [self._corners(x, radius), self._crossings(x, radius), steepest]
        moved = self.forward(_within(x, np.concatenate(points), radius)) - self.forward(x[None])
        return float((moved @ normals.T + offsets).min())

    def _corners(self, x: Float, radius: float) -> Float:
        """Where two lines meet, [k, 2] in units of the radius around x."""
        normals, constants = self._around(x, radius)
        first, second = np.triu_indices(len(normals), 1)
        a, b = normals[first], normals[second]
        determinant = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
        meet = np.abs(determinant) > 1e-12
        p, q = constants[first], constants[second]
        corners = np.stack([a[:, 1] * q - b[:, 1] * p, b[:, 0] * p - a[:, 0] * q], axis=1)
        return corners[meet] / determinant[meet, None]

    def _crossings(self, x: Float, radius: float) -> Float:
        """Where a line meets the circle, [k, 2] in units of the radius around x."""
        normals, constants = self._around(x, radius)
        distance = -constants[:, None] * normals  # foot of the line
        rest = np.sqrt(np.maximum(1 - constants**2, 0))[:, None]
        along = rest * np.stack([-normals[:, 1], normals[:, 0]], axis=1)
        return np.concatenate([distance + along, distance - along])

    def _around(self, x: Float, radius: float) -> tuple[Float, Float]:
        """The lines with unit normals, in coordinates where the disc is the unit disc."""
        normals, constants = self.lines
        sizes = np.linalg.norm(normals, axis=1)
        real = sizes > 1e-12
        scaled = (normals[real] @ x + constants[real]) / (sizes[real] * radius)
        return normals[real] / sizes[real, None], scaled


def stationary(matrix: Float, shift: Float) -> Float:
    """Points u [k, 2] of the unit circle where ``||matrix u + shift||`` is stationary.

    With ``u = (cos t, sin t)`` its square is a trigonometric polynomial of degree 2; times
    ``exp(2 i t)`` its derivative is a polynomial of degree 4 in ``exp(i t)``.
    """
    gram, linear = matrix.T @ matrix, 2 * matrix.T @ shift
    cosine, sine = (gram[0, 0] - gram[1, 1]) / 2, gram[0, 1]
    second, first = (sine + 1j * cosine), (linear[1] + 1j * linear[0]) / 2
    # d/dt = 2 sine cos 2t - 2 cosine sin 2t + linear_1 cos t - linear_0 sin t
    roots = np.roots([second, first, 0.0, np.conj(first), np.conj(second)])
    angles = np.angle(roots[np.abs(roots) > 1e-9])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _within(x: Float, units: Float, radius: float) -> Float:
    """The candidates that lie in the disc, and its centre."""
    kept = units[np.linalg.norm(units, axis=1) <= 1 + 1e-12]
    return x + radius * np.concatenate([kept, np.zeros((1, 2))])
