"""Certified upper bounds of operator norms."""

from reaas_bounds.norms.circulant import convolution_norm
from reaas_bounds.norms.matrix import matrix_norm
from reaas_bounds.norms.operator import OperatorNorms

__all__ = ["OperatorNorms", "convolution_norm", "matrix_norm"]
