"""Where ONNX Runtime and the engine part: the first node of a file with another value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from reaas_bounds import BoundsError
from reaas_bounds.graph.lowering import traced
from reaas_bounds.graph.onnx_file import label
from reaas_runtime.inference import RuntimeRefusalError, open_session

from reaas_gate.probes import Images

# Of a node's largest value: float32 rounding on the way to a node of a deep encoder stays below.
_ROUNDING = 1e-3
# Values of all nodes are held at once; of so many images that they fit.
_MOST = 4


@dataclass(frozen=True)
class _Difference:
    node: onnx.NodeProto
    what: str
    relative: float


def first_difference(onnx_bytes: bytes, batch: Images, at: int) -> str:
    """A phrase that names the first node whose value of image ``at`` of ``batch`` differs.

    ONNX Runtime fuses fewer nodes where every value is asked for: where no node differs by itself,
    the phrase says so.
    """
    if at >= _MOST:
        batch, at = batch[at : at + 1], 0
    try:
        differences = _differences(onnx_bytes, batch[:_MOST], at)
    except (BoundsError, RuntimeRefusalError, RuntimeError, ValueError) as error:
        return f"which node it is cannot be told ({type(error).__name__})"
    wrong = [found for found in differences if found.relative > _ROUNDING]
    if wrong:
        node = wrong[0].node
        return f"the first node that differs is {label(node)!r} ({node.op_type}): {wrong[0].what}"
    return "no node differs where each is looked at: they do when ONNX Runtime fuses them"


def _differences(onnx_bytes: bytes, batch: Images, at: int) -> list[_Difference]:
    """In the file's order, one for each node that both of them have a value of."""
    trace = traced(onnx_bytes)
    values = trace.graph.activations(torch.from_numpy(batch.astype(np.float64)))
    model = onnx.load_model_from_string(onnx_bytes)
    asked = [
        (node, name) for node in model.graph.node for name in node.output if name in trace.index
    ]
    served = _all_values(model, [name for _, name in asked], batch)
    return [
        _compared(node, array[at : at + 1], values[trace.index[name]][at : at + 1].numpy())
        for (node, name), array in zip(asked, served, strict=True)
    ]


def _all_values(
    model: onnx.ModelProto, names: list[str], batch: Images
) -> list[NDArray[np.generic]]:
    """ONNX Runtime's values of ``names``, of a copy of the graph that gives them all."""
    known = {value.name for value in model.graph.output}
    missing = [onnx.ValueInfoProto(name=name) for name in names if name not in known]
    model.graph.output.extend(missing)
    session = open_session(model.SerializeToString())
    try:
        found: list[NDArray[np.generic]] = session.run(names, {session.get_inputs()[0].name: batch})
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise RuntimeError(str(error)) from error
    return found


def _compared(
    node: onnx.NodeProto, served: NDArray[np.generic], exact: NDArray[np.float64]
) -> _Difference:
    if served.shape != exact.shape:
        what = f"its shape is {list(served.shape[1:])}, the engine's {list(exact.shape[1:])}"
        return _Difference(node, what, np.inf)
    apart = np.abs(served.astype(np.float64) - exact)
    largest, scale = float(np.max(apart)), float(np.abs(exact).max())
    if not np.isfinite(largest):
        return _Difference(node, "its value is not finite", np.inf)
    what = f"{largest:.3g} apart, its values reach {scale:.3g}"
    return _Difference(node, what, largest / scale if scale else largest)
