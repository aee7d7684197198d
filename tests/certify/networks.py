"""Random classifiers and an attack on them, for the tests of certified radii."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reaas.certify import DownstreamClassifier

Float = NDArray[np.float64]
Labels = NDArray[np.int64]


def random_classifier(
    generator: np.random.Generator, *widths: int, gain: float = 1.5
) -> DownstreamClassifier:
    """A classifier with layers `widths[i] -> widths[i + 1]` and Gaussian weights."""
    shapes = list(zip(widths[1:], widths, strict=False))
    return DownstreamClassifier(
        tuple(generator.normal(size=shape) * gain / np.sqrt(shape[1]) for shape in shapes),
        tuple(generator.normal(size=rows) * 0.2 for rows, _ in shapes),
    )


def margin_gradient(
    classifier: DownstreamClassifier, points: Float, labels: Labels, rivals: Labels
) -> Float:
    """The gradient `[n, d]` of `g_label - g_rival` at each point `[n, d]`."""
    values, active = points, []
    for weight, bias in zip(classifier.weights[:-1], classifier.biases[:-1], strict=True):
        values = values @ weight.T + bias
        active.append(values > 0)
        values = np.maximum(values, 0)
    gradient = classifier.weights[-1][labels] - classifier.weights[-1][rivals]
    for weight, mask in zip(reversed(classifier.weights[:-1]), reversed(active), strict=True):
        gradient = (gradient * mask) @ weight
    return gradient


def attack(
    classifier: DownstreamClassifier,
    features: Float,
    labels: Labels,
    radii: Float,
    generator: np.random.Generator,
    steps: int = 25,
) -> NDArray[np.bool_]:
    """PGD within the balls towards every other class, from the centre and a random start.

    Returns which labels `[n]` fell. For a linear head the first full step is the optimum.
    """
    fallen = np.zeros(len(labels), bool)
    for shift in range(1, classifier.classes):
        rivals = (labels + shift) % classifier.classes
        for start in (np.zeros_like(features), generator.normal(size=features.shape)):
            delta, share = _onto_sphere(start, radii), 1.0
            for _ in range(steps):
                gradient = margin_gradient(classifier, features + delta, labels, rivals)
                delta = _into_ball(delta - _onto_sphere(gradient, share * radii), radii)
                fallen |= classifier.predict(features + delta) != labels
                share = 0.1
    return fallen


def _onto_sphere(delta: Float, radii: Float) -> Float:
    norms = np.linalg.norm(delta, axis=1)
    return np.asarray(delta * (radii / np.maximum(norms, 1e-300))[:, None])


def _into_ball(delta: Float, radii: Float) -> Float:
    norms = np.linalg.norm(delta, axis=1)
    return np.asarray(delta * np.minimum(1.0, radii / np.maximum(norms, 1e-300))[:, None])
