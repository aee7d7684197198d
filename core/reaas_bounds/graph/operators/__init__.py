"""One function per ONNX operator: what it means as affine maps, activations and sums.

Opset 13 to the newest known to ``onnx``. An option that is not listed is as unsupported as an
unknown operator; defaults follow the ONNX specification.
"""

from reaas_bounds.graph.operators.activations import ACTIVATIONS
from reaas_bounds.graph.operators.bent import BENT
from reaas_bounds.graph.operators.coupled import COUPLED
from reaas_bounds.graph.operators.elementwise import ELEMENTWISE
from reaas_bounds.graph.operators.lengths import LENGTHS
from reaas_bounds.graph.operators.linear import LINEAR
from reaas_bounds.graph.operators.moving import MOVING
from reaas_bounds.graph.operators.options import Operator
from reaas_bounds.graph.operators.pooling import POOLING
from reaas_bounds.graph.operators.resize import RESIZE
from reaas_bounds.graph.operators.shapes import SHAPES
from reaas_bounds.graph.operators.sorting import SORTING

OPERATORS: dict[str, Operator] = {
    **ACTIVATIONS,
    **BENT,
    **COUPLED,
    **ELEMENTWISE,
    **LENGTHS,
    **LINEAR,
    **MOVING,
    **POOLING,
    **RESIZE,
    **SHAPES,
    **SORTING,
}

__all__ = ["OPERATORS"]
