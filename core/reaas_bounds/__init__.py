"""Certified mathematics of REaaS: how far a feature can move when an image moves by r.

    network = load_network(onnx_bytes)
    constants = certified_constants(network)
    certify_ball(network, constants, images, feature_radii, Method.AUTO)
    certify_margins(network, constants, images, normals, offsets)

Every radius is L2 on images in [0,1] units; every bound is deterministic and in float64, rounding
included.
"""

from reaas_bounds.bounds.region import ACCEPTED
from reaas_bounds.condensed import condensed
from reaas_bounds.constants import CertifiedConstants, certified_constants
from reaas_bounds.device import prepare_device
from reaas_bounds.errors import (
    BoundsError,
    CalledOffError,
    DeviceError,
    InvalidModelError,
    InvalidQueryError,
    UnsupportedOperatorError,
)
from reaas_bounds.graph import (
    LinearOp,
    Network,
    ReplicateChannels,
    SeparableResize,
    load_network,
)
from reaas_bounds.interruption import interruptible
from reaas_bounds.margin_query import CertifiedMargin, MarginMethod, MarginOptions
from reaas_bounds.margins import certify_margins
from reaas_bounds.query import CertifiedRadius, Method, SearchOptions
from reaas_bounds.search import certify_ball

__all__ = [
    "ACCEPTED",
    "BoundsError",
    "CalledOffError",
    "CertifiedConstants",
    "CertifiedMargin",
    "CertifiedRadius",
    "DeviceError",
    "InvalidModelError",
    "InvalidQueryError",
    "LinearOp",
    "MarginMethod",
    "MarginOptions",
    "Method",
    "Network",
    "ReplicateChannels",
    "SearchOptions",
    "SeparableResize",
    "UnsupportedOperatorError",
    "certified_constants",
    "certify_ball",
    "certify_margins",
    "condensed",
    "interruptible",
    "load_network",
    "prepare_device",
]
