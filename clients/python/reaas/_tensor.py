"""Arrays on the wire: numpy <-> Tensor, row-major and little-endian whatever the machine is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reaas._errors import InvalidArgumentError, ProtocolError
from reaas.v1 import tensor_pb2

_WIRE_DTYPES: dict[int, np.dtype[Any]] = {
    tensor_pb2.DATA_TYPE_UINT8: np.dtype("u1"),
    tensor_pb2.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    tensor_pb2.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    tensor_pb2.DATA_TYPE_INT64: np.dtype("<i8"),
}
_WIRE_TYPES = {dtype.newbyteorder("="): number for number, dtype in _WIRE_DTYPES.items()}


def dtype_name(number: int) -> str:
    """numpy's name of a wire type, or the number itself where a newer service names a new one."""
    dtype = _WIRE_DTYPES.get(number)
    return dtype.name if dtype else f"type {number}"


def to_tensor(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """A Tensor with the bytes of `array`, whose dtype is uint8, float32, float64 or int64."""
    number = _WIRE_TYPES[array.dtype.newbyteorder("=")]
    wire = array.astype(_WIRE_DTYPES[number], copy=False)
    return tensor_pb2.Tensor(
        dtype=tensor_pb2.DataType.Name(number), shape=array.shape, data=wire.tobytes()
    )


def from_tensor(tensor: tensor_pb2.Tensor, dtype: type[Any], ndim: int, field: str) -> NDArray[Any]:
    """The array in a reply: native byte order, writable, its own memory.

    Raises ProtocolError where the type, the number of axes or the length is not what it must be.
    """
    wire = _WIRE_DTYPES.get(tensor.dtype)
    if wire is None or wire.newbyteorder("=") != np.dtype(dtype):
        want = np.dtype(dtype).name
        raise ProtocolError(f"reply: {field} is {dtype_name(tensor.dtype)}, it must be {want}")
    shape = tuple(tensor.shape)
    if len(shape) != ndim or min(shape, default=0) < 1:
        raise ProtocolError(f"reply: {field} has shape {shape}, it must have {ndim} axes of >= 1")
    need = math.prod(shape) * wire.itemsize
    if len(tensor.data) != need:
        raise ProtocolError(
            f"reply: {field} of shape {shape} has {len(tensor.data)} bytes, it must have {need}"
        )
    return np.frombuffer(tensor.data, wire).reshape(shape).astype(dtype)


def check_inputs(inputs: NDArray[Any]) -> NDArray[Any]:
    """`inputs` if it can be sent as a batch; the service checks the rest against its model.

    Other types are refused and not converted: a radius refers to the very numbers that were sent.
    """
    if not isinstance(inputs, np.ndarray) or inputs.dtype not in (np.uint8, np.float32):
        got = str(getattr(inputs, "dtype", type(inputs).__name__))
        raise InvalidArgumentError(
            f"inputs is {got}; it must be a numpy array of uint8 (pixels 0..255) or float32",
            reason="INVALID_DTYPE",
            field="inputs.dtype",
            limit="uint8|float32",
            got=got,
        )
    if inputs.ndim < 2:
        raise InvalidArgumentError(
            f"inputs has shape {inputs.shape}; its first axis must be the batch, "
            "for images [n, height, width, channels]",
            reason="INVALID_SHAPE",
            field="inputs.shape",
            limit="[n, ...]",
            got=str(inputs.shape),
        )
    if not inputs.size:
        raise InvalidArgumentError(
            f"inputs has shape {inputs.shape}; a batch has at least one input and no empty axis",
            reason="EMPTY_BATCH",
            field="inputs.shape",
            limit=">= 1",
            got=str(inputs.shape),
        )
    return inputs
