"""Random encoders as ONNX bytes, built operator by operator, for the tests of the bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class EncoderBuilder:
    """Appends operators to a graph `input` [N, C, H, W] -> `feature` [N, d]; random weights."""

    def __init__(self, shape: Sequence[int] = (3, 8, 8), seed: int = 0, opset: int = 17) -> None:
        self.opset = opset
        self.random = np.random.default_rng(seed)
        self.shape = tuple(shape)
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.last = "input"
        self.channels = self.shape[0]

    def op(self, kind: str, *constants: NDArray[Any], **attributes: Any) -> EncoderBuilder:
        """Append an operator that reads the last value and ``constants``."""
        names = [self._constant(constant) for constant in constants]
        return self._append(kind, [self.last, *names], attributes)

    def normalise(self) -> EncoderBuilder:
        """(x - mean) / std per channel."""
        shape = (1, self.channels, 1, 1)
        mean = self.random.uniform(0.3, 0.6, shape)
        return self.op("Sub", mean).op("Div", self.random.uniform(0.2, 0.3, shape))

    def conv(self, out: int, kernel: int = 3, groups: int = 1, **attributes: Any) -> EncoderBuilder:
        """Convolution with He-like weights and a bias."""
        inputs = self.channels // groups
        weight = self.random.normal(size=(out, inputs, kernel, kernel))
        weight /= np.sqrt(inputs * kernel * kernel)
        self.channels = out
        bias = 0.1 * self.random.normal(size=out)
        attributes.setdefault("kernel_shape", [kernel, kernel])
        return self.op("Conv", weight, bias, group=groups, **attributes)

    def batch_norm(self) -> EncoderBuilder:
        """Batch normalisation in inference mode."""
        c, draw = self.channels, self.random.uniform
        parameters = (draw(0.5, 1.5, c), draw(-1, 1, c), draw(-1, 1, c), draw(0.2, 2, c))
        return self.op("BatchNormalization", *parameters)

    def relu(self) -> EncoderBuilder:
        """ReLU."""
        return self.op("Relu")

    def residual(self, branch: Callable[[EncoderBuilder], EncoderBuilder]) -> EncoderBuilder:
        """x + branch(x)."""
        start = self.last
        branch(self)
        return self._append("Add", [start, self.last], {})

    def head(self, features: int, dim: int = 6) -> bytes:
        """Flatten, Gemm; the finished file."""
        return self.op("Flatten").linear(features, dim).file(dim)

    def linear(self, features: int, dim: int) -> EncoderBuilder:
        """Gemm with a bias."""
        weight = self.random.normal(size=(dim, features)) / np.sqrt(features)
        return self.op("Gemm", weight, 0.1 * self.random.normal(size=dim), transB=1)

    def file(self, dim: int) -> bytes:
        """ONNX bytes of the graph so far."""
        self.nodes[-1].output[0] = "feature"
        tensors = [numpy_helper.from_array(v, name) for name, v in self.constants.items()]
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *self.shape])]
        outputs = [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", dim])]
        graph = helper.make_graph(self.nodes, "encoder", inputs, outputs, tensors)
        opset = [helper.make_opsetid("", self.opset)]
        data: bytes = helper.make_model(
            graph, opset_imports=opset, ir_version=9
        ).SerializeToString()
        return data

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        kept = value if value.dtype in (np.int64, np.bool_) else value.astype(np.float32)
        self.constants[name] = kept
        return name

    def _append(self, kind: str, inputs: list[str], attributes: dict[str, Any]) -> EncoderBuilder:
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        self.last = output
        return self


def strided(seed: int = 0) -> bytes:
    """Normalisation, two strided convolutions, linear: the shape of the shipped encoders."""
    b = EncoderBuilder(seed=seed).normalise()
    b.conv(5, 4, strides=[2, 2], pads=[1, 1, 1, 1]).relu()
    b.conv(7, 4, strides=[2, 2], pads=[1, 1, 1, 1]).relu()
    return b.head(7 * 2 * 2)


def asymmetric(seed: int = 0) -> bytes:
    """Asymmetric padding, stride 3, dilation, average pool."""
    b = EncoderBuilder(seed=seed).normalise()
    b.conv(4, 3, pads=[0, 1, 2, 0]).relu()  # 8x7
    b.conv(6, 3, strides=[3, 2], pads=[1, 2, 0, 1]).relu()  # 3x4
    b.conv(4, 2, dilations=[2, 1], pads=[1, 1, 1, 0]).relu()  # 3x4
    b.op("AveragePool", kernel_shape=[3, 2], strides=[1, 2])  # 1x2
    return b.head(4 * 1 * 2)


def grouped(seed: int = 0) -> bytes:
    """Groups, batch normalisation before and after, global pooling."""
    b = EncoderBuilder((4, 6, 6), seed=seed).batch_norm()
    b.conv(8, 3, groups=4, pads=[1, 1, 1, 1]).batch_norm().relu()
    b.conv(8, 3, groups=2, strides=[2, 2], pads=[1, 1, 1, 1]).relu()
    return b.op("GlobalAveragePool").head(8)


def residual(seed: int = 0) -> bytes:
    """Two residual blocks: one around the identity, one that ends in a sum of branch and skip."""
    b = EncoderBuilder(seed=seed).normalise()
    b.conv(4, 3, strides=[2, 2], pads=[1, 1, 1, 1]).relu()
    pads = [1, 1, 1, 1]
    b.residual(lambda x: x.conv(4, 3, pads=pads).batch_norm().relu().conv(4, 3, pads=pads)).relu()
    b.residual(lambda x: x.conv(4, 1)).relu()
    return b.head(4 * 4 * 4)


def dense(seed: int = 0) -> bytes:
    """A fully connected network on the pixels, constants before and after."""
    b = EncoderBuilder((1, 3, 3), seed=seed)
    b.op("Mul", np.array(2.0)).op("Add", np.array([[[[-1.0]]]])).op("Flatten")
    b.linear(9, 8).relu().linear(8, 7).relu()
    b.op("MatMul", b.random.normal(size=(7, 4))).op("Add", b.random.normal(size=4))
    return b.file(4)


ENCODERS: dict[str, Callable[[int], bytes]] = {
    "strided": strided,
    "asymmetric": asymmetric,
    "grouped": grouped,
    "residual": residual,
    "dense": dense,
}


class Float32:
    """The served encoder: ONNX Runtime on one thread."""

    def __init__(self, onnx: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Features [n, d] of images [n, C, H, W], computed in float32."""
        feature = self._session.run(None, {"input": images.astype(np.float32)})[0]
        return np.asarray(feature, np.float64)


def interpolation(size: int, out: int) -> NDArray[np.float64]:
    """Bilinear interpolation matrix [out, size], half-pixel centres, rows sum to 1."""
    at = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
    left = np.minimum(at.astype(int), max(size - 2, 0))
    matrix = np.zeros((out, size))
    np.add.at(matrix, (np.arange(out), left), 1 - (at - left))
    np.add.at(matrix, (np.arange(out), np.minimum(left + 1, size - 1)), at - left)
    return matrix
