"""Checking and decoding the inputs of a request, before anything is allocated for them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reaas.v1 import tensor_pb2

from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.manifest import InputSpec

# No tensor of the contract has more than 4; a shape beyond that is not even quoted.
_MOST_DIMENSIONS = 8
_NUMPY: dict[int, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}


def check_inputs(tensor: tensor_pb2.Tensor, spec: InputSpec, max_inputs: int) -> int:
    """Check dtype, shape, batch size and length of `inputs` against the model; returns n.

    Touches the header only, so it is cheap enough for the event loop. Raises DomainError:
    INVALID_DTYPE, INVALID_SHAPE, EMPTY_BATCH, BATCH_TOO_LARGE, INVALID_DATA_LENGTH.
    """
    _check_dtype(tensor, spec)
    shape = shape_of(tensor, "inputs", (4,), "[n, height, width, channels]")
    if shape[0] == 0:
        raise DomainError(
            Reason.EMPTY_BATCH,
            f"inputs.shape {list(shape)} has no input: send at least 1",
            field="inputs.shape",
            got=list(shape),
            limit="at least 1 input",
        )
    _check_image_shape(shape, spec)
    if shape[0] > max_inputs:
        raise DomainError(
            Reason.BATCH_TOO_LARGE,
            f"inputs.shape has {shape[0]} inputs in one message, the most is {max_inputs}",
            field="inputs.shape",
            got=shape[0],
            limit=max_inputs,
        )
    check_length(tensor, "inputs")
    return shape[0]


def shape_of(
    tensor: tensor_pb2.Tensor, field: str, dimensions: Collection[int], wanted: str
) -> tuple[int, ...]:
    """The shape, if it has one of these numbers of dimensions: counted before it is looked at.

    Raises DomainError INVALID_SHAPE.
    """
    count = len(tensor.shape)
    if count > _MOST_DIMENSIONS:
        raise DomainError(
            Reason.INVALID_SHAPE,
            f"{field}.shape has {count} dimensions, allowed: {wanted}",
            field=f"{field}.shape",
            got=f"{count} dimensions",
            limit=wanted,
        )
    shape = tuple(tensor.shape)
    if count not in dimensions:
        raise _invalid_shape(shape, wanted, field)
    return shape


def decode_inputs(
    tensor: tensor_pb2.Tensor, spec: InputSpec, *, clean: bool
) -> NDArray[np.float32]:
    """Inputs that `check_inputs` passed, as float32 [n, h, w, c] in [0,1] units.

    UINT8 is divided by 255 in float32. FLOAT32 must be finite and inside `value_range` (`clean`,
    for F2IPerturb) or `accepted_range` (an image with noise). Raises DomainError INVALID_VALUE.
    """
    values = as_array(tensor)
    if tensor.dtype == tensor_pb2.DATA_TYPE_UINT8:
        scaled: NDArray[np.float32] = np.divide(values, np.float32(255), dtype=np.float32)
        return scaled
    images: NDArray[np.float32] = values.astype(np.float32, copy=False)
    low, high = spec.value_range if clean else spec.accepted_range
    # NaN fails both comparisons, since min and max propagate it.
    if not (images.min() >= low and images.max() <= high):
        raise _invalid_value(images, low, high)
    return images


def check_length(tensor: tensor_pb2.Tensor, field: str) -> None:
    """Raise DomainError unless `data` holds exactly product(shape) elements of `dtype`."""
    dtype = _NUMPY.get(tensor.dtype)
    if dtype is None:
        raise _invalid_dtype(tensor.dtype, field, _NUMPY)
    few = range(_MOST_DIMENSIONS + 1)
    shape = shape_of(tensor, field, few, f"at most {_MOST_DIMENSIONS} dimensions")
    if any(size < 1 for size in shape):
        raise _invalid_shape(shape, "sizes of at least 1", field)
    expected = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != expected:
        raise DomainError(
            Reason.INVALID_DATA_LENGTH,
            f"{field}.data has {len(tensor.data)} bytes, shape {list(shape)} of "
            f"{_name(tensor.dtype)} takes {expected}",
            field=f"{field}.data",
            got=len(tensor.data),
            limit=expected,
        )


def as_array(tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """A tensor that `check_length` passed as a read-only array on the message's own bytes."""
    return np.frombuffer(tensor.data, dtype=_NUMPY[tensor.dtype]).reshape(tuple(tensor.shape))


def as_tensor(array: NDArray[np.float32]) -> tensor_pb2.Tensor:
    """A float32 array as a Tensor message."""
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32,
        shape=array.shape,
        data=array.astype("<f4", copy=False).tobytes(),
    )


def _check_dtype(tensor: tensor_pb2.Tensor, spec: InputSpec) -> None:
    if tensor.dtype not in spec.wire_dtypes():
        raise _invalid_dtype(tensor.dtype, "inputs", spec.wire_dtypes())


def _check_image_shape(shape: tuple[int, ...], spec: InputSpec) -> None:
    height, width, channels = spec.shape
    allowed = (channels, 1) if spec.grey else (channels,)
    if shape[0] < 0 or shape[3] not in allowed:
        counts = " or ".join(str(c) for c in allowed)
        raise _invalid_shape(shape, f"[n, height, width, {counts}]")
    if spec.resize is None:
        if shape[1:3] != (height, width):
            raise _invalid_shape(shape, f"[n, {height}, {width}, channels]")
        return
    (low_h, low_w), (high_h, high_w) = spec.resize.min_size, spec.resize.max_size
    if not (low_h <= shape[1] <= high_h and low_w <= shape[2] <= high_w):
        raise _invalid_shape(shape, f"height {low_h} to {high_h} and width {low_w} to {high_w}")


def _invalid_dtype(got: int, field: str, allowed: Iterable[int]) -> DomainError:
    names = ", ".join(_name(dtype) for dtype in allowed)
    return DomainError(
        Reason.INVALID_DTYPE,
        f"{field}.dtype is {_name(got)}, allowed: {names}",
        field=f"{field}.dtype",
        got=_name(got),
        limit=names,
    )


def _invalid_shape(shape: tuple[int, ...], wanted: str, field: str = "inputs") -> DomainError:
    return DomainError(
        Reason.INVALID_SHAPE,
        f"{field}.shape is {list(shape)}, allowed: {wanted}",
        field=f"{field}.shape",
        got=list(shape),
        limit=wanted,
    )


def _invalid_value(images: NDArray[np.float32], low: float, high: float) -> DomainError:
    wrong = ~((images >= low) & (images <= high))  # [n, h, w, c]
    position = tuple(int(i) for i in np.argwhere(wrong)[0])
    value = float(images[position])
    return DomainError(
        Reason.INVALID_VALUE,
        f"inputs.data has {value:g} at {list(position)}, allowed: {low:g} to {high:g}",
        field="inputs.data",
        got=value,
        limit=f"{low:g} to {high:g}",
    )


def _name(dtype: int) -> str:
    known = tensor_pb2.DataType.values()
    if dtype not in known:
        return str(dtype)
    return tensor_pb2.DataType.Name(dtype).removeprefix("DATA_TYPE_")
