"""Certified mathematics of REaaS: how far a feature can move when an image moves by r.

    network = load_network(onnx_bytes)
    constants = certified_constants(network)
    network.forward(x)                    # float64 features

Every radius is L2 on images in [0,1] units; every bound is deterministic and in float64, rounding
included.
"""

from reaas_bounds.constants import CertifiedConstants, certified_constants
from reaas_bounds.errors import (
    BoundsError,
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

__all__ = [
    "BoundsError",
    "CertifiedConstants",
    "InvalidModelError",
    "InvalidQueryError",
    "LinearOp",
    "Network",
    "ReplicateChannels",
    "SeparableResize",
    "UnsupportedOperatorError",
    "certified_constants",
    "load_network",
]
