"""What a head is worth on images that it was not trained on, without a query."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import reaas
from reaas._constant import radius_from_constant
from reaas.certify import (
    DownstreamClassifier,
    accuracy,
    average_certified_radius,
    certified_accuracy,
    certify_crown,
)
from reaas.cli._training_data import TrainingData

RADII = (0.05, 0.1, 0.25, 0.5, 1.0)
"""L2 on pixels in [0,1]; where the certified accuracy is told."""
_STEP = 256  # Images of ones at once.


def held_out_score(
    data: TrainingData, classifier: DownstreamClassifier, held: NDArray[np.bool_]
) -> dict[str, Any]:
    """Accuracy, and certified accuracy at RADII, of the rows `held`.

    Theorem: R' by CROWN on the head, then R = (R' - float32 errors) / L by the encoder's certified
    constant. The error grows with the image's norm, so the image of ones, the largest that there
    is, stands for each. Deterministic; reaas certify finds larger radii. Certified values are None
    for images of other sizes: the constant holds for the encoder's own.
    """
    features, truth = data.features[held], data.labels[held]
    certificates = certify_crown(classifier, features)
    labels = certificates.labels
    score: dict[str, Any] = {
        "images": len(truth),
        "accuracy": accuracy(labels, truth),
        "certified_accuracy": None,
        "average_certified_radius": None,
    }
    if data.own_shape:
        radii = _image_radii(data.model, np.asarray(certificates.radii, np.float64))
        shares = certified_accuracy(labels, radii, truth, RADII)
        score["certified_accuracy"] = {str(r): float(s) for r, s in zip(RADII, shares, strict=True)}
        score["average_certified_radius"] = average_certified_radius(labels, radii, truth)
    return score


def score_line(score: dict[str, Any]) -> str:
    """The score in a sentence."""
    text = f"On {score['images']} held-out images: {score['accuracy']:.1%} right"
    if score["certified_accuracy"] is None:
        return f"{text}; certified accuracy only for the encoder's own size (--resize)"
    parts = ", ".join(f"{share:.1%} at {r}" for r, share in score["certified_accuracy"].items())
    return f"{text}; certified without a query: {parts}"


def _image_radii(model: reaas.ModelInfo, feature_radii: NDArray[np.float64]) -> NDArray[np.float64]:
    radii = np.zeros_like(feature_radii)
    rows = np.flatnonzero(feature_radii > 0)
    for start in range(0, len(rows), _STEP):
        part = rows[start : start + _STEP]
        ones = np.ones((len(part), *model.input.shape), np.float32)
        radii[part] = radius_from_constant(model, ones, feature_radii[part])
    return radii
