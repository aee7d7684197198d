from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from reaas.v1 import tensor_pb2
from reaas_runtime import DomainError, InputSpec, Reason, as_array, as_tensor, check_length
from reaas_runtime.inputs import check_inputs, decode_inputs

from tests.support.models import manifest

SPEC = InputSpec.model_validate(manifest(b"")["input"])
FLOAT32, UINT8 = tensor_pb2.DATA_TYPE_FLOAT32, tensor_pb2.DATA_TYPE_UINT8


def read(tensor: tensor_pb2.Tensor, *, clean: bool = False) -> NDArray[np.float32]:
    check_inputs(tensor, SPEC, 16)
    return decode_inputs(tensor, SPEC, clean=clean)


def refused(tensor: tensor_pb2.Tensor, *, clean: bool = False) -> DomainError:
    with pytest.raises(DomainError) as error:
        read(tensor, clean=clean)
    return error.value


@given(
    st.integers(-1, 9),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), max_size=6),
    st.binary(max_size=300),
)
def test_whatever_is_sent_is_decoded_or_a_typed_error(
    dtype: int, shape: list[int], data: bytes
) -> None:
    tensor = tensor_pb2.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    try:
        images = read(tensor)
    except DomainError as refusal:
        error = refusal
    else:
        assert images.shape == tuple(shape)
        return
    assert error.field.startswith("inputs")
    assert error.limit


def test_uint8_is_divided_by_255_in_float32() -> None:
    pixels = np.arange(192, dtype=np.uint8).reshape(1, 8, 8, 3)
    tensor = tensor_pb2.Tensor(dtype=UINT8, shape=pixels.shape, data=pixels.tobytes())
    assert check_inputs(tensor, SPEC, 1) == 1
    decoded = decode_inputs(tensor, SPEC, clean=True)
    assert decoded.dtype == np.float32
    assert (decoded == pixels.astype(np.float32) / np.float32(255)).all()


def test_noise_may_leave_the_clean_range_in_encode_only() -> None:
    images = np.full((1, 8, 8, 3), -3.5, np.float32)
    assert (decode_inputs(as_tensor(images), SPEC, clean=False) == images).all()
    error = refused(as_tensor(images), clean=True)
    assert error.reason is Reason.INVALID_VALUE
    assert error.message == "inputs.data has -3.5 at [0, 0, 0, 0], allowed: 0 to 1"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 17.0])
def test_values_are_found_where_they_are(value: float) -> None:
    images = np.zeros((2, 8, 8, 3), np.float32)
    images[1, 2, 3, 0] = value
    error = refused(as_tensor(images))
    assert error.reason is Reason.INVALID_VALUE
    assert "[1, 2, 3, 0]" in error.message


def test_a_batch_has_at_most_so_many_inputs() -> None:
    error = refused(as_tensor(np.zeros((17, 8, 8, 3), np.float32)))
    assert error.reason is Reason.BATCH_TOO_LARGE
    assert (error.got, error.limit) == ("17", "16")


def tensor_of(images: NDArray[Any]) -> tensor_pb2.Tensor:
    dtype = UINT8 if images.dtype == np.uint8 else FLOAT32
    return tensor_pb2.Tensor(dtype=dtype, shape=images.shape, data=images.tobytes())


def test_what_the_manifest_does_not_allow() -> None:
    plain = InputSpec.model_validate(
        manifest(b"")["input"] | {"resize": None, "grey": False, "dtypes": ["uint8"]}
    )
    cases: list[tuple[NDArray[Any], Reason]] = [
        (np.zeros((1, 8, 8, 3), np.float32), Reason.INVALID_DTYPE),
        (np.zeros((1, 8, 9, 3), np.uint8), Reason.INVALID_SHAPE),
        (np.zeros((1, 8, 8, 1), np.uint8), Reason.INVALID_SHAPE),
    ]
    for images, reason in cases:
        with pytest.raises(DomainError) as error:
            check_inputs(tensor_of(images), plain, 16)
        assert error.value.reason is reason


@pytest.mark.parametrize(
    ("dtype", "numpy_dtype"),
    [
        (UINT8, "u1"),
        (FLOAT32, "<f4"),
        (tensor_pb2.DATA_TYPE_FLOAT64, "<f8"),
        (tensor_pb2.DATA_TYPE_INT64, "<i8"),
    ],
)
def test_tensors_of_every_type(dtype: tensor_pb2.DataType, numpy_dtype: str) -> None:
    array = np.arange(6).astype(numpy_dtype).reshape(2, 3)
    tensor = tensor_pb2.Tensor(dtype=dtype, shape=[2, 3], data=array.tobytes())
    check_length(tensor, "values")
    assert (as_array(tensor) == array).all()
    tensor.data = tensor.data[:-1]
    with pytest.raises(DomainError, match=r"values\.data has"):
        check_length(tensor, "values")
