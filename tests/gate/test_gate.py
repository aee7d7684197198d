"""Mistakes planted in the engine, and files that are served otherwise: all are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from reaas_bounds import load_network
from reaas_bounds.graph.builder import GraphBuilder
from reaas_bounds.graph.maps import Scaling
from reaas_bounds.graph.operators import OPERATORS
from reaas_gate import ServedOtherwiseError, check_served, probe_record

from tests.support.models import build, conv_encoder


def body(**conv: Any) -> bytes:
    """Conv, BatchNormalization, Relu, pooling, Gemm; `conv` are attributes of the convolution."""
    random = np.random.default_rng(1)
    constants = {
        "w": random.normal(size=(4, 3, 3, 3)) / 5,
        "scale": random.uniform(0.5, 1.5, 4),
        "shift": random.normal(size=4) / 9,
        "mean": random.normal(size=4) / 9,
        "variance": random.uniform(0.5, 1.5, 4),
        "last": random.normal(size=(5, 4)),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["c"], name="first", **conv),
        helper.make_node(
            "BatchNormalization",
            ["c", "scale", "shift", "mean", "variance"],
            ["n"],
            name="norm",
            epsilon=0.1,
        ),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node(
            "AveragePool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]
        ),
        helper.make_node("GlobalAveragePool", ["p"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "last"], ["feature"], name="gemm", transB=1),
    ]
    return build(nodes, constants, (3, 12, 12), 5)


def changed(node: onnx.NodeProto, **attributes: Any) -> onnx.NodeProto:
    """A copy of a node with other attributes."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    kept = [a for a in node.attribute if a.name not in attributes]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    copy.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    return copy


def scaled(factor: float) -> Any:
    def operator(builder: GraphBuilder, node: onnx.NodeProto) -> None:
        shape = builder.nodes[builder.source(node)].shape
        builder.affine(node, Scaling(torch.tensor(factor, dtype=torch.float64), shape))

    return operator


MISTAKES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dilation ignored": ("Conv", "first", {"dilations": [1, 1], "pads": [0, 0, 0, 0]}),
    "padding off by one": ("Conv", "first", {"pads": [2, 1, 0, 1]}),
    "epsilon dropped": ("BatchNormalization", "norm", {"epsilon": 0.0}),
    "strides swapped": ("Conv", "first", {"strides": [1, 2]}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_engine_is_found_and_its_node_named(
    mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, node, attributes = MISTAKES[mistake]
    right = OPERATORS[operator]
    file = body(strides=[2, 1], dilations=[2, 2], pads=[1, 1, 1, 1])
    monkeypatch.setitem(
        OPERATORS, operator, lambda builder, node: right(builder, changed(node, **attributes))
    )
    with pytest.raises(ServedOtherwiseError, match=rf"first node that differs is '{node}'"):
        check_served(file, load_network(file))


def test_a_wrong_activation_is_found_among_right_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "Relu", scaled(0.999))
    file = body()
    with pytest.raises(ServedOtherwiseError, match=r"'relu' \(Relu\)"):
        check_served(file, load_network(file))


def test_files_that_are_served_as_they_are_certified_pass() -> None:
    for file in (body(), body(strides=[2, 1], dilations=[2, 2], pads=[1, 1, 1, 1]), conv_encoder()):
        checked = check_served(file, load_network(file))
        assert checked.worst < 0.03
        assert checked.images >= 10
        assert checked.batches > checked.images


def test_time_that_is_up_leaves_the_fewest_images() -> None:
    file = body()
    assert check_served(file, load_network(file), seconds=0).images == 4


def test_an_engine_whose_error_is_beyond_use_is_still_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A certified error of deep encoders says nothing: 40 % of a feature may not pass for it."""
    monkeypatch.setattr(
        "reaas_gate.reference.float32_error_at",
        lambda network, x: torch.full((len(x),), 1e9, dtype=torch.float64),
    )
    file = body()
    assert check_served(file, load_network(file)).worst < 0.03
    monkeypatch.setitem(OPERATORS, "Relu", scaled(0.6))
    with pytest.raises(ServedOtherwiseError, match="relu"):
        check_served(file, load_network(file))


def test_features_divided_by_their_length_are_compared() -> None:
    model = onnx.load_model_from_string(body())
    model.graph.node[-1].output[0] = "long"
    model.graph.initializer.append(numpy_helper.from_array(np.array(1e-12, np.float32), "least"))
    model.graph.node.extend(
        [
            helper.make_node("ReduceL2", ["long"], ["length"], axes=[1], keepdims=1),
            helper.make_node("Clip", ["length", "least"], ["limited"]),
            helper.make_node("Div", ["long", "limited"], ["feature"]),
        ]
    )
    file = model.SerializeToString()
    assert check_served(file, load_network(file)).worst < 0.03


def test_a_batch_that_is_no_batch_is_found() -> None:
    """Images that see their neighbours, which the engine does not see."""
    file, other = conv_encoder(seed=1), conv_encoder(seed=2)
    with pytest.raises(ServedOtherwiseError, match="apart on the image"):
        check_served(other, load_network(file))


def test_what_onnx_runtime_refuses_is_refused() -> None:
    file = body()
    model = onnx.load_model_from_string(file)
    extra = helper.make_tensor_value_info("second", TensorProto.FLOAT, ["N", 3, 12, 12])
    model.graph.input.append(extra)
    with pytest.raises(ServedOtherwiseError, match="2 inputs"):
        check_served(model.SerializeToString(), load_network(file))
    model = onnx.load_model_from_string(file)
    model.graph.initializer[-1].CopyFrom(
        numpy_helper.from_array(np.zeros((5, 7), np.float32), "last")
    )
    with pytest.raises(ServedOtherwiseError, match="onnxruntime"):
        check_served(model.SerializeToString(), load_network(file))


def test_a_record_holds_what_the_engine_computes() -> None:
    file = body()
    network = load_network(file)
    record = probe_record(network, check_served(file, network))
    assert [len(probe["features"]) for probe in record["probes"]] == [5, 5, 5]
    assert all(0 < probe["error"] < 1e-3 for probe in record["probes"])
