"""Rescaling inside the network: an exact linear map of rows and columns."""

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
from reaas_bounds.graph.maps import Rescaling
from reaas_bounds.graph.onnx_file import check_activation, label
from reaas_bounds.graph.operators.options import Operator, options, require

# How far a coordinate that is computed in float32 may be off, relative to the size of the axis.
_COORDINATE_ERROR = Fraction(1, 2**20)
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
    require(node, given["antialias"] == 0, "antialias")
    policy = given["keep_aspect_ratio_policy"]
    require(node, policy == b"stretch", f"keep_aspect_ratio_policy={policy!r}")
    shape = builder.shape(node, rank=3)
    scales, sizes = _target(builder, node, tuple(given["axes"]) or (0, 1, 2, 3))
    axes = [_Axis(node, shape[k], scales[k + 1], sizes[k + 1], text) for k in (1, 2)]
    require(node, scales[:2] == [1, 1] and sizes[:2] in ([None, None], [None, shape[0]]), "axes")
    check_activation((shape[0], *(axis.outputs for axis in axes)), node.output[0])
    rows, columns = (axis.matrix() for axis in axes)
    builder.affine(node, Rescaling(rows, columns, shape[0]))


def _target(
    builder: GraphBuilder, node: onnx.NodeProto, axes: tuple[int, ...]
) -> tuple[list[Fraction], list[int | None]]:
    """Factor and, where stated, size of all four axes."""
    scales = [Fraction(1)] * 4
    sizes: list[int | None] = [None] * 4
    if builder.has(node, 2) and builder.constant(node, 2).size:
        stated = builder.weight(node, 2).tolist()
        require(node, len(stated) == len(axes) and min(stated) > 0, f"scales {stated}")
        for axis, factor in zip(axes, stated, strict=True):
            scales[axis] = Fraction(factor)
        return scales, sizes
    found = builder.constant(node, 3).ravel().tolist()
    require(node, len(found) == len(axes), f"sizes {found}")
    wanted = dict(zip(axes, found, strict=True))
    return scales, [None if k == 0 else wanted.get(k) for k in range(4)]


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
        self.scale = scale if size is None else Fraction(float(np.float32(size / inputs)))

    def matrix(self) -> Tensor:
        """The rows [outputs, inputs] of weights.

        Raises:
            UnsupportedOperatorError: float32 coordinates may choose other pixels or weights.
        """
        found = torch.zeros(self.outputs, self.inputs, dtype=torch.float64)
        for output in range(self.outputs):
            at = min(max(self._coordinate(output), Fraction(0)), Fraction(self.inputs - 1))
            for pixel, weight in self._weights(at):
                found[output, pixel] += float(weight)
        return found

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

    def _weights(self, at: Fraction) -> list[tuple[int, Fraction]]:
        if self.text["mode"] == "linear":
            self._require_exact(at)
            left = math.floor(at)
            return [(left, 1 - (at - left)), (min(left + 1, self.inputs - 1), at - left)]
        require(self.node, self.text["mode"] == "nearest", f"mode={self.text['mode']}")
        rule = _ROUNDING.get(self.text["nearest_mode"])
        require(self.node, rule is not None, f"nearest_mode={self.text['nearest_mode']}")
        assert rule is not None
        off = self.inputs * _COORDINATE_ERROR
        if rule(at - off) != rule(at + off):
            self._require_exact(at)
        return [(min(max(rule(at), 0), self.inputs - 1), Fraction(1))]

    def _require_exact(self, at: Fraction) -> None:
        """All that float32 computes on the way must be exact: short binary fractions."""
        whole = self.text["coordinate_transformation_mode"] == "asymmetric"
        steps = [at] if whole and self.scale.denominator == 1 else [at, 1 / self.scale, self.scale]
        if any(step != Fraction(float(np.float16(float(step)))) for step in steps):
            raise UnsupportedOperatorError(
                label(self.node),
                f"Resize ({self.text['mode']}) by a factor {float(self.scale)}: float32 "
                "coordinates are not exact; only powers of two are",
            )


RESIZE: dict[str, Operator] = {"Resize": _resize}
