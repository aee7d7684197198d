"""Attributes of an ONNX node, checked: an option that is not understood is unsupported."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from reaas_bounds.errors import InvalidModelError, UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.onnx_file import label
from reaas_bounds.graph.window import Shape

Operator = Callable[[GraphBuilder, onnx.NodeProto], None]


def options(node: onnx.NodeProto, **defaults: Any) -> dict[str, Any]:
    """The node's attributes over ``defaults``; one that is not listed is unsupported."""
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for name in given:
        if name not in defaults:
            raise UnsupportedOperatorError(label(node), f"{node.op_type} with {name}")
    return defaults | given


def require(node: onnx.NodeProto, condition: bool, option: str) -> None:
    """Refuse the node for its ``option`` unless ``condition``."""
    if not condition:
        raise UnsupportedOperatorError(label(node), f"{node.op_type} with {option}")


def axes_of(
    builder: GraphBuilder, node: onnx.NodeProto, given: object, rank: int
) -> tuple[int, ...]:
    """Axes as attribute ``given`` or as input 1, of an activation of ``rank`` without its batch.

    Axis 0 is the first after the batch. Empty if the node states none.
    """
    stated = given if given else builder.integers(node, 1) if builder.has(node, 1) else ()
    found = tuple(sorted(axis_of(node, axis, rank) for axis in stated))  # type: ignore[attr-defined]
    require(node, len(set(found)) == len(found), f"axes {list(found)} that repeat")
    return found


def axis_of(node: onnx.NodeProto, axis: int, rank: int) -> int:
    """The stated ``axis`` as one of an activation without its batch axis."""
    found = axis - 1 if axis >= 0 else axis + rank
    require(node, 0 <= found < rank, f"axis={axis} of a batch of rank {rank + 1}")
    return found


WINDOW: dict[str, Any] = {
    "auto_pad": b"NOTSET",
    "kernel_shape": (),
    "strides": (1, 1),
    "pads": (0, 0, 0, 0),
    "dilations": (1, 1),
}


@dataclass(frozen=True)
class Geometry:
    """Stride, padding (top, left, bottom, right) and dilation of a sliding window."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]

    @property
    def spans(self) -> tuple[int, int]:
        """Pixels from the first to the last tap."""
        (high, wide), (down, across) = self.kernel, self.dilation
        return down * (high - 1) + 1, across * (wide - 1) + 1


def geometry(node: onnx.NodeProto, given: dict[str, Any], kernel: Shape, plane: Shape) -> Geometry:
    """The window of a node with ``WINDOW`` options on planes of size ``plane``, checked."""
    auto, stated = given["auto_pad"], tuple(given["kernel_shape"])
    stride, dilation = tuple(given["strides"]), tuple(given["dilations"])
    pads = tuple(given["pads"]) if auto == b"NOTSET" else (0, 0, 0, 0)
    sane = len(kernel) == len(stride) == len(dilation) == 2 and len(pads) == 4
    if (
        not sane
        or min(kernel + stride + dilation) < 1
        or min(pads) < 0
        or (stated and stated != kernel)
    ):
        raise InvalidModelError(
            f"node {label(node)!r}: kernel {list(kernel)} with kernel_shape {list(stated)}, "
            f"strides {list(stride)}, pads {list(pads)}, dilations {list(dilation)} is no 2-D "
            "window"
        )
    found = Geometry(kernel, stride, pads, dilation)  # type: ignore[arg-type]
    idle = auto == b"NOTSET" or not any(given["pads"])
    require(node, idle, f"auto_pad={auto.decode(errors='replace')} beside pads")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        # ONNX Runtime pads for the kernel as if it were not dilated; ONNX says otherwise.
        require(node, dilation == (1, 1), f"auto_pad={auto.decode()} with dilations")
        same = _same(found, plane, upper=auto == b"SAME_UPPER")
        return Geometry(found.kernel, found.stride, same, found.dilation)
    require(node, auto in (b"NOTSET", b"VALID"), f"auto_pad={auto.decode(errors='replace')}")
    return found


def _same(window: Geometry, plane: Shape, *, upper: bool) -> tuple[int, int, int, int]:
    """The padding that leaves ``ceil(size / stride)`` outputs; the odd pixel goes at the end."""
    before, after = [], []
    for size, stride, span in zip(plane, window.stride, window.spans, strict=True):
        missing = max(0, (math.ceil(size / stride) - 1) * stride + span - size)
        small, large = missing // 2, missing - missing // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return before[0], before[1], after[0], after[1]
