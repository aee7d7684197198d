"""Certification of a downstream classifier, on the client: numpy and scipy only.

BC: `certify_ibp`, `certify_crown`. SC: `certify_smoothed` (noise on features), or from votes
that were got elsewhere `certify_from_votes`. Radii are L2, in the space that was certified.
`margin_planes` has half-spaces in which the label holds instead of a radius.
"""

from __future__ import annotations

from ._base import certify_crown, certify_ibp
from ._certificates import ABSTAIN, Certificates
from ._classifier import DownstreamClassifier
from ._errors import InvalidArgumentError
from ._metrics import accuracy, average_certified_radius, certified_accuracy
from ._planes import MarginPlanes, margin_planes
from ._smoothing import certify_smoothed
from ._votes import (
    CURVE_BUDGETS,
    SmoothingConfig,
    VoteBudget,
    certify_budgets,
    certify_from_counts,
    certify_from_votes,
    lower_confidence_bound,
    radius_from_votes,
)

__all__ = [
    "ABSTAIN",
    "CURVE_BUDGETS",
    "Certificates",
    "DownstreamClassifier",
    "InvalidArgumentError",
    "MarginPlanes",
    "SmoothingConfig",
    "VoteBudget",
    "accuracy",
    "average_certified_radius",
    "certified_accuracy",
    "certify_budgets",
    "certify_crown",
    "certify_from_counts",
    "certify_from_votes",
    "certify_ibp",
    "certify_smoothed",
    "lower_confidence_bound",
    "margin_planes",
    "radius_from_votes",
]
