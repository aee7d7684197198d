"""A random encoder in the making: ONNX nodes with drawn weights, and the shape reached so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

T = TypeVar("T")

OPSET = 20  # the first with Gelu
IR_VERSION = 9


class Draft:
    """Appends operators to a graph `input` [N, C, H, W] -> `feature` [N, d]."""

    def __init__(self, shape: Sequence[int], seed: int | Sequence[int]) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = tuple(shape)
        self.last = "input"
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[TensorProto] = []

    @property
    def now(self) -> tuple[int, ...]:
        """Shape of the last value without its batch axis."""
        if self.last == "input":
            return self.shape
        inferred = shape_inference.infer_shapes(self._model(None), data_prop=True)
        sizes = inferred.graph.output[0].type.tensor_type.shape.dim[1:]
        return tuple(int(size.dim_value) for size in sizes)

    def pick(self, *choices: T) -> T:
        """One of the choices."""
        return choices[int(self.random.integers(len(choices)))]

    def uniform(self, low: float, high: float, *shape: int) -> NDArray[np.float64]:
        """Uniform numbers."""
        return self.random.uniform(low, high, shape)

    def weights(self, *shape: int) -> NDArray[np.float64]:
        """Gaussian weights [o, i, ...] that keep the size of activations."""
        size = float(np.sqrt(1.5 / np.prod(shape[1:])))
        return size * self.random.normal(size=shape)

    def op(self, kind: str, *inputs: str | NDArray[Any] | None, **attributes: Any) -> str:
        """Append an operator: of the last value and constants, or of the values named.

        An input that is left out is None. Returns the name of the output, now the last value.
        """
        named = any(isinstance(value, str) for value in inputs)
        values = inputs if named else (self.last, *inputs)
        return self.outputs(kind, 1, *values, **attributes)[0]

    def outputs(
        self, kind: str, count: int, *inputs: str | NDArray[Any] | None, **attributes: Any
    ) -> list[str]:
        """Append an operator with ``count`` outputs, of which the last one becomes the last."""
        place = f"{kind.lower()}_{len(self._nodes)}"
        names = [place if count == 1 else f"{place}_{index}" for index in range(count)]
        read = [self._name(value) for value in inputs]
        self._nodes.append(helper.make_node(kind, read, names, name=place, **attributes))
        self.last = names[-1]
        return names

    def finish(self) -> bytes:
        """The file; the last value is the feature [N, d]."""
        dim = self.now[0]
        self.op("Identity")
        self._nodes[-1].output[0] = self.last = "feature"
        model = self._model(["N", dim])
        onnx.checker.check_model(model)
        data: bytes = model.SerializeToString()
        return data

    def _name(self, value: str | NDArray[Any] | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        name = f"c{len(self._constants)}"
        kept = value if value.dtype == np.int64 else value.astype(np.float32)
        self._constants.append(numpy_helper.from_array(kept, name))
        return name

    def _model(self, shape: list[str | int] | None) -> onnx.ModelProto:
        """The graph so far, with the last value of ``shape`` as its output."""
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [value("input", TensorProto.FLOAT, ["N", *self.shape])],
            [value(self.last, TensorProto.FLOAT, shape)],
            self._constants,
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
