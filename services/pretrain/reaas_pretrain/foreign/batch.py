"""Frees a batch size that an exporter has written into the graph."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from reaas_pretrain.foreign.editing import add_constant, constants

# Of Reshape's target: this axis is what is left; this axis is as it was.
_REST, _SAME = -1, 0


def free_batch(graph: onnx.GraphProto, batch: int) -> int:
    """Makes Reshapes and Expands to `batch` images keep whatever batch they get; how many it were.

    A Reshape whose first size is the batch either has another size that is left open (then the
    batch becomes "as it was", what it is wherever axis 0 is the batch) or fixes all others (then
    the batch is what is left). Expand leaves an axis alone where it is asked for 1. Whether axis 0 is the batch is for the comparison with the file
    itself, and for that at several batch sizes, to say: a wrong guess is refused there.
    """
    known, changed = constants(graph), 0
    for node in graph.node:
        if node.op_type not in ("Reshape", "Expand") or len(node.input) < 2:
            continue
        target = known.get(node.input[1])
        if target is None or target.ndim != 1 or not len(target) or target[0] != batch:
            continue
        sizes = [int(size) for size in target]
        if 0 in sizes and _allows_zero(node):
            continue
        if node.op_type == "Expand":
            sizes[0] = 1  # Stretched to whatever is there.
        else:
            sizes[0] = _SAME if _REST in sizes[1:] else _REST
        node.input[1] = add_constant(graph, "free_batch", np.asarray(sizes, np.int64))
        _let_zero_mean_same(node)
        changed += 1
    return changed


def _let_zero_mean_same(node: onnx.NodeProto) -> None:
    """A Reshape without sizes of 0 is the same with `allowzero` or without."""
    kept = [attribute for attribute in node.attribute if attribute.name != "allowzero"]
    del node.attribute[:]
    node.attribute.extend(kept)


def _allows_zero(node: onnx.NodeProto) -> bool:
    return any(
        attribute.name == "allowzero" and helper.get_attribute_value(attribute)
        for attribute in node.attribute
    )
