"""Frees a batch size that an exporter has written into the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from reaas_pretrain.foreign.editing import add_constant, constants

# Of Reshape's target: this axis is what is left; this axis is as it was.
_REST, _SAME = -1, 0


def free_batch(graph: onnx.GraphProto, batch: int) -> int:
    """Makes Reshapes to `batch` images keep whatever batch they get; how many were changed.

    A Reshape whose first size is the batch either has another size that is left open (then the
    batch becomes "as it was", what it is wherever axis 0 is the batch) or fixes all others (then
    the batch is what is left). Whether axis 0 is the batch is for the comparison with the file
    itself, and for that at several batch sizes, to say: a wrong guess is refused there.
    """
    known, changed = constants(graph), 0
    for node in graph.node:
        if node.op_type != "Reshape" or len(node.input) < 2 or _allows_zero(node):
            continue
        target = known.get(node.input[1])
        if target is None or target.ndim != 1 or not len(target) or target[0] != batch:
            continue
        sizes = [int(size) for size in target]
        sizes[0] = _SAME if _REST in sizes[1:] else _REST
        node.input[1] = add_constant(graph, "free_batch", np.asarray(sizes, np.int64))
        changed += 1
    return changed


def _allows_zero(node: onnx.NodeProto) -> bool:
    return any(
        attribute.name == "allowzero" and helper.get_attribute_value(attribute)
        for attribute in node.attribute
    )
