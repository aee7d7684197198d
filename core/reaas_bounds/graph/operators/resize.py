"""Rescaling inside the network: a linear map of rows and columns.

Coordinates are computed in float32 by ONNX Runtime. Weights of linear interpolation follow them and
are off a little, which counts as rounding; the nearest pixel must be the same beyond doubt.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import onnx
import torch
from torch import Tensor

from reaas_bounds.errors import UnsupportedOperatorError
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.interpolation import Interpolation, hat, hat_errors
from reaas_bounds.graph.maps import Rescaling
from reaas_bounds.graph.onnx_file import check_activation, label
from reaas_bounds.graph.operators.integers import BATCH
from reaas_bounds.graph.operators.options import Operator, options, require

# How far a coordinate that is computed in float32 may be off, relative to the size of the axis and
# one: 8 units of rounding, for a quotient or a product with the inverse, and a difference.
_COORDINATE_ERROR = Fraction(1, 2**21)
_HALF = Fraction(1, 2)

_ROUNDING: dict[str, Callable[[Fraction], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda at: math.ceil(at - _HALF),
    "round_prefer_ceil": lambda at: math.floor(at + _HALF),
}


def _resize(builder: GraphBuilder, node: onnx.NodeProto) -> None:
    given = options(
        node,
        mode=b"nearest",
        coordinate_transformation_mode=b"half_pixel",
        nearest_mode=b"round_prefer_floor",
        antialias=0,
        axes=(),
        cubic_coeff_a=-0.75,
        exclude_outside=0,
        extrapolation_value=0.0,
        keep_aspect_ratio_policy=b"stretch",
    )
    text = {name: given[name].decode(errors="replace") for name in given if name.endswith("mode")}
    require(node, given["antialias"] == 0, "antialias (a filter normalised in float32)")
    require(node, given["exclude_outside"] == 0, "exclude_outside")
    policy = given["keep_aspect_ratio_policy"]
    require(node, policy == b"stretch", f"keep_aspect_ratio_policy={policy!r}")
    shape = builder.shape(node, rank=3)
    stated = tuple(given["axes"]) or (0, 1, 2, 3)
    places = tuple(axis + 4 if axis < 0 else axis for axis in stated)
    known = len(set(places)) == len(places) and all(0 <= place < 4 for place in places)
    require(node, known, f"axes={list(stated)}")
    scales, sizes = _target(builder, node, places)
    axes = [_Axis(node, shape[k], scales[k + 1], sizes[k + 1], text) for k in (1, 2)]
    require(node, scales[:2] == [1, 1] and sizes[:2] in ([None, None], [None, shape[0]]), "axes")
    check_activation((shape[0], *(axis.outputs for axis in axes)), node.output[0])
    (rows, row_errors), (columns, column_errors) = (axis.matrices() for axis in axes)
    linear = Rescaling(rows, columns, shape[0])
    if bool(row_errors.any() | column_errors.any()):
        linear = Interpolation(rows, columns, row_errors, column_errors, shape[0])
    builder.affine(node, linear)


def _target(
    builder: GraphBuilder, node: onnx.NodeProto, axes: tuple[int, ...]
) -> tuple[list[Fraction], list[int | None]]:
    """Factor and, where stated, size of all four axes."""
    scales = [Fraction(1)] * 4
    sizes: list[int | None] = [None] * 4
    by_scale = builder.has(node, 2) and builder.constant(node, 2).size > 0
    by_size = builder.has(node, 3)
    require(node, by_scale != by_size, "both scales and sizes, or none of them")
    if by_scale:
        stated = builder.weight(node, 2).tolist()
        require(node, len(stated) == len(axes) and min(stated) > 0, f"scales {stated}")
        for axis, factor in zip(axes, stated, strict=True):
            scales[axis] = Fraction(factor)
        return scales, sizes
    found = builder.entries(node, 3)
    require(node, len(found) == len(axes), f"sizes {found}")
    wanted = dict(zip(axes, found, strict=True))
    free = wanted.pop(0, BATCH) == BATCH
    require(node, free and BATCH not in wanted.values(), f"sizes {found}; only the batch is free")
    return scales, [wanted.get(k) for k in range(4)]


class _Axis:
    """One axis: where each output lies among the inputs."""

    def __init__(
        self,
        node: onnx.NodeProto,
        inputs: int,
        scale: Fraction,
        size: int | None,
        text: dict[str, str],
    ) -> None:
        self.node, self.inputs, self.text = node, inputs, text
        self.outputs = math.floor(inputs * scale) if size is None else size
        require(node, self.outputs >= 1, f"{self.outputs} outputs")
        whole = size is not None or int(np.float32(inputs) * np.float32(scale)) == self.outputs
        require(node, whole, f"a factor {float(scale)} of {inputs}, in float32 of another size")
        self.scale = scale if size is None else Fraction(float(np.float32(size / inputs)))

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Weights [outputs, inputs], and how far the served ones may be off.

        Raises:
            UnsupportedOperatorError: another mode, or float32 may choose another nearest pixel.
        """
        off = (self.inputs + 1) * _COORDINATE_ERROR
        pairs = [self._weights(self._coordinate(k), off) for k in range(self.outputs)]
        weights, errors = zip(*pairs, strict=True)
        return torch.stack(weights), torch.stack(errors)

    def _coordinate(self, output: int) -> Fraction:
        mode = self.text["coordinate_transformation_mode"]
        if mode == "half_pixel" or (mode == "pytorch_half_pixel" and self.outputs > 1):
            return (output + _HALF) / self.scale - _HALF
        if mode == "align_corners" and self.outputs > 1:
            return Fraction(output * (self.inputs - 1), self.outputs - 1)
        if mode == "asymmetric":
            return output / self.scale
        require(self.node, mode in ("pytorch_half_pixel", "align_corners"), mode)
        return Fraction(0)

    def _weights(self, coordinate: Fraction, off: Fraction) -> tuple[Tensor, Tensor]:
        """Weights [inputs] and their errors for an output at a coordinate that is ``off``."""
        at, *ends = (
            self._inside(place) for place in (coordinate, coordinate - off, coordinate + off)
        )
        if self.text["mode"] == "linear":
            found = hat(self.inputs, float(at))
            far = 0.0 if self._exact(at) else float(max(abs(end - at) for end in ends))
            return found, hat_errors(self.inputs, float(at), far)
        require(self.node, self.text["mode"] == "nearest", f"mode={self.text['mode']}")
        rule = _ROUNDING.get(self.text["nearest_mode"])
        require(self.node, rule is not None, f"nearest_mode={self.text['nearest_mode']}")
        assert rule is not None
        if rule(ends[0]) != rule(ends[1]) and not self._exact(at):
            raise UnsupportedOperatorError(
                label(self.node),
                f"Resize (nearest) by a factor {float(self.scale)}: float32 coordinates may choose "
                "another pixel",
            )
        nearest = min(max(rule(at), 0), self.inputs - 1)
        return hat(self.inputs, nearest), torch.zeros(self.inputs, dtype=torch.float64)

    def _inside(self, place: Fraction) -> Fraction:
        return min(max(place, Fraction(0)), Fraction(self.inputs - 1))

    def _exact(self, at: Fraction) -> bool:
        """Whether all that float32 computes on the way is exact: short binary fractions."""
        whole = self.text["coordinate_transformation_mode"] == "asymmetric"
        steps = [at] if whole and self.scale.denominator == 1 else [at, 1 / self.scale, self.scale]
        return all(step == Fraction(float(np.float16(float(step)))) for step in steps)


RESIZE: dict[str, Operator] = {"Resize": _resize}
