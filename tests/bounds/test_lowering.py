"""What the engine reads from an ONNX file is what ONNX Runtime executes, or an error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from reaas_bounds import (
    InvalidModelError,
    InvalidQueryError,
    ReplicateChannels,
    SeparableResize,
    UnsupportedOperatorError,
    load_network,
)

from tests.bounds.encoders import ENCODERS, EncoderBuilder, Float32, interpolation, strided


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_features_are_those_of_onnx_runtime(name: str, seed: int) -> None:
    data = ENCODERS[name](seed)
    network = load_network(data)
    images = np.random.default_rng(seed).uniform(size=(5, *network.input_shape))
    exact = network.forward(torch.from_numpy(images.astype(np.float32).astype(np.float64)))
    assert exact.shape == (5, network.feature_dim)
    np.testing.assert_allclose(exact.numpy(), Float32(data)(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_folding_keeps_the_function(name: str) -> None:
    network = load_network(ENCODERS[name](3))
    x = torch.rand(4, *network.input_shape, dtype=torch.float64)
    torch.testing.assert_close(network.forward(x), network.executed.forward(x))
    assert len(network.folded.nodes) < len(network.executed.nodes)


def test_a_grey_image_of_another_size_is_replicated_and_rescaled() -> None:
    network = load_network(strided())
    rows, columns = interpolation(5, 8), interpolation(12, 8)
    client = network.with_input([ReplicateChannels(3), SeparableResize(rows, columns)])
    assert client.input_shape == (1, 5, 12)
    x = torch.rand(3, 1, 5, 12, dtype=torch.float64)
    resized = torch.from_numpy(rows) @ x.expand(-1, 3, -1, -1) @ torch.from_numpy(columns).T
    torch.testing.assert_close(client.forward(x), network.forward(resized))


def test_input_maps_that_do_not_fit_are_refused() -> None:
    network = load_network(strided())
    with pytest.raises(InvalidQueryError, match="4 channels"):
        network.with_input([ReplicateChannels(4)])
    with pytest.raises(InvalidQueryError, match="resize to 9x8"):
        network.with_input([SeparableResize(interpolation(4, 9), interpolation(4, 8))])


def test_an_unknown_operator_is_named_with_its_node() -> None:
    data = EncoderBuilder().conv(2).op("Sin").head(2 * 36)
    with pytest.raises(UnsupportedOperatorError, match=r"'sin_1' uses Sin") as caught:
        load_network(data)
    assert (caught.value.node, caught.value.operator) == ("sin_1", "Sin")


@pytest.mark.parametrize(
    ("data", "option"),
    [
        (EncoderBuilder().op("Flatten", axis=2).head(8), "axis=2"),
        (EncoderBuilder().op("Reshape", np.array([-1, 2, 64])).head(64), r"shape=\[-1, 2, 64\]"),
    ],
)
def test_an_option_without_a_bound_is_as_unsupported(data: bytes, option: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=option):
        load_network(data)


def test_activations_that_do_not_fit_are_not_multiplied() -> None:
    builder = EncoderBuilder().conv(3, 1).op("Flatten")
    builder._append("Mul", ["input", builder.last], {})
    with pytest.raises(UnsupportedOperatorError, match="Mul with activations"):
        load_network(builder.head(3 * 64))


def _edited(change: Callable[[TensorProto], object]) -> bytes:
    """The strided encoder with its first kernel [5, 3, 4, 4] changed."""
    model = onnx.load_model_from_string(strided())
    change(model.graph.initializer[2])
    data: bytes = model.SerializeToString()
    return data


def _refill(data: bytes) -> Callable[[TensorProto], object]:
    return lambda tensor: setattr(tensor, "raw_data", data)


def _claim_terabytes(tensor: TensorProto) -> None:
    tensor.dims[0] = 2**40


def _point_outside(tensor: TensorProto) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def test_corrupt_and_hostile_files_are_refused() -> None:
    good = strided()
    size = 5 * 3 * 4 * 4
    for data, message in [
        (b"", "no ONNX file"),
        (b"not a model at all", "no ONNX file"),
        (good[: len(good) // 2], "no ONNX file|checker"),
        (_edited(_refill(np.full(size, np.nan, np.float32).tobytes())), "not finite"),
        (_edited(_refill(b"\0" * 12)), "claims 960 bytes and holds 12|checker"),
        (_edited(_claim_terabytes), "claims|checker"),
        (_edited(_point_outside), "lies outside of the file"),
    ]:
        with pytest.raises(InvalidModelError, match=message):
            load_network(data)


def test_a_small_output_does_not_hide_a_huge_padding_or_dilation() -> None:
    wide = EncoderBuilder().conv(2, 2, pads=[0, 0, 2**20, 2**20], strides=[2**20, 2**20])
    with pytest.raises(InvalidModelError, match="padded input"):
        load_network(wide.head(2 * 4))
    spread = EncoderBuilder().conv(512, 2, pads=[500] * 4, dilations=[900, 900])
    with pytest.raises(InvalidModelError, match=r"dilated kernel|activation"):
        load_network(spread.head(8))


def test_an_encoder_has_one_image_input_and_one_feature() -> None:
    images = EncoderBuilder().conv(2).relu().file(2)
    with pytest.raises(InvalidModelError, match=r"must be a FLOAT feature \[N, d\]"):
        load_network(images)
    fixed = onnx.load_model_from_string(strided())
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    with pytest.raises(InvalidModelError, match="with a free N"):
        load_network(fixed.SerializeToString())
    double = onnx.load_model_from_string(strided())
    double.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1]))
    with pytest.raises(InvalidModelError, match="one input and one output"):
        load_network(double.SerializeToString())


def test_a_kernel_or_matrix_that_does_not_fit_is_refused() -> None:
    builder = EncoderBuilder()
    builder.channels = 5
    with pytest.raises(InvalidModelError, match="does not fit an activation"):
        load_network(builder.conv(2).head(2 * 36))
    with pytest.raises(InvalidModelError, match="matrix"):
        load_network(EncoderBuilder().conv(2).head(17))
    with pytest.raises(InvalidModelError, match="divides by zero"):
        load_network(EncoderBuilder().op("Div", np.zeros(1)).conv(2).head(2 * 36))
