"""Sound bounds of ``max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``: one bound, one module."""

from reaas_bounds.bounds.ball import ball_envelope
from reaas_bounds.bounds.centre import Centre
from reaas_bounds.bounds.crown import crown_bound
from reaas_bounds.bounds.crown_joint import crown_joint_bound
from reaas_bounds.bounds.envelope import Local
from reaas_bounds.bounds.exclusion import per_coordinate_floor
from reaas_bounds.bounds.ibp import ibp_bound
from reaas_bounds.bounds.lipschitz import LipschitzConstant, lipschitz_constant
from reaas_bounds.bounds.steepness import jacobian_norm

__all__ = [
    "Centre",
    "LipschitzConstant",
    "Local",
    "ball_envelope",
    "crown_bound",
    "crown_joint_bound",
    "ibp_bound",
    "jacobian_norm",
    "lipschitz_constant",
    "per_coordinate_floor",
]
