"""The encoder as an ONNX graph: Sub, Div, Conv, Relu (or MaxMin), Flatten, Gemm.

Written node by node rather than traced: the graph is the thing that is served and certified, so it
holds what the encoder is and nothing else, and the same weights give the same bytes (the digest).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from reaas_pretrain.encoder import ConvEncoder

OPSET = 17
"""Read by ONNX Runtime since 1.12; later opsets change nothing in these operators."""
IR_VERSION = 8
"""The one that goes with opset 17; newer ones are refused by older runtimes."""


def encoder_onnx(encoder: ConvEncoder) -> bytes:
    """ONNX bytes: `input` float32 `[N, 3, s, s]` in [0, 1] -> `feature` float32 `[N, d]`."""
    config, builder = encoder.config, _GraphBuilder()
    name = builder.node("Sub", "input", builder.constant("mean", encoder.mean))
    name = builder.node("Div", name, builder.constant("std", encoder.std))
    for index, layer in enumerate(encoder.layers[:-1], start=1):
        name = builder.node(
            "Conv",
            name,
            builder.constant(f"conv{index}.weight", layer.weight),
            builder.constant(f"conv{index}.bias", _bias(layer)),
            kernel_shape=[config.kernel] * 2,
            strides=[config.stride] * 2,
            pads=[config.padding] * 4,
        )
        name = builder.maxmin(name) if config.family == "orthogonal" else builder.node("Relu", name)
    name = builder.node("Flatten", name, axis=1)
    name = builder.node(
        "Gemm",
        name,
        builder.constant("linear.weight", encoder.linear.weight),
        builder.constant("linear.bias", encoder.linear.bias),
        transB=1,
    )
    builder.nodes[-1].output[0] = "feature"
    side = config.image_size
    graph = helper.make_graph(
        builder.nodes,
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", config.feature_dim])],
        builder.initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="reaas-pretrain",
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def run_onnx(model: bytes, images: Tensor) -> NDArray[np.float32]:
    """Features `[n, d]` of images `[n, 3, s, s]` in [0, 1] by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return np.asarray(features, dtype=np.float32)


class _GraphBuilder:
    """Nodes in order; each value is named after the operator that makes it and its place."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def node(self, operator: str, *inputs: str, **attributes: int | list[int]) -> str:
        """Appends a node; returns the name of its output."""
        (output,) = self.outputs(operator, 1, *inputs, **attributes)
        return output

    def outputs(
        self, operator: str, count: int, *inputs: str, **attributes: int | list[int]
    ) -> list[str]:
        """Appends a node of `count` outputs; returns their names."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        outputs = [name] if count == 1 else [f"{name}_{index}" for index in range(count)]
        node = helper.make_node(operator, inputs, outputs, name=name)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        return outputs

    def maxmin(self, name: str) -> str:
        """Channel i and channel i + c/2 in order, the larger one first; returns its output."""
        first, second = self.outputs("Split", 2, name, axis=1)
        larger, smaller = self.node("Max", first, second), self.node("Min", first, second)
        return self.node("Concat", larger, smaller, axis=1)

    def constant(self, name: str, value: Tensor) -> str:
        """Adds an initializer; returns its name."""
        array = np.ascontiguousarray(value.detach().numpy(), dtype=np.float32)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name


def _bias(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """A convolution's bias; the encoder's layers all have one."""
    if layer.bias is None:
        raise ValueError("the encoder's convolutions are built with a bias, this one has none")
    return layer.bias
