"""Sound bounds of ``max ||f(x + d) - f(x)||_2`` over ``||d||_2 <= r``."""

from reaas_bounds.bounds.lipschitz import LipschitzConstant, lipschitz_constant

__all__ = ["LipschitzConstant", "lipschitz_constant"]
