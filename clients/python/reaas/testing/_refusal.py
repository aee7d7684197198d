"""Typed errors as the services send them, and the checks that lead to them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import grpc
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from reaas._errors import ERROR_DOMAIN
from reaas.testing._model import FakeModel
from reaas.v1 import f2i_pb2, model_pb2, tensor_pb2

_DTYPES = {tensor_pb2.DATA_TYPE_UINT8: "u1", tensor_pb2.DATA_TYPE_FLOAT32: "<f4"}
_RADIUS_DTYPES = {tensor_pb2.DATA_TYPE_FLOAT32: "<f4", tensor_pb2.DATA_TYPE_FLOAT64: "<f8"}
_FLOAT64 = {tensor_pb2.DATA_TYPE_FLOAT64: "<f8"}
_LARGEST_RADIUS = 1e9
_CODES = {
    "MODEL_NOT_FOUND": grpc.StatusCode.NOT_FOUND,
    "DIGEST_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "MODEL_BROKEN": grpc.StatusCode.FAILED_PRECONDITION,
    "UNSUPPORTED_OPERATOR": grpc.StatusCode.FAILED_PRECONDITION,
    "UNAUTHENTICATED": grpc.StatusCode.UNAUTHENTICATED,
    "QUEUE_FULL": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "BATCH_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "DEADLINE_TOO_SHORT": grpc.StatusCode.DEADLINE_EXCEEDED,
    "INTERNAL": grpc.StatusCode.INTERNAL,
}


class RefusedError(Exception):
    """A request that is answered with a typed error."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        field: str = "",
        limit: object = "",
        got: object = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason, self.message, self.field = reason, message, field
        self.limit, self.got, self.retry_after_s = str(limit), str(got), retry_after_s

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        """Ends the call with the status and details of this refusal."""
        code = _CODES.get(self.reason, grpc.StatusCode.INVALID_ARGUMENT)
        status = status_pb2.Status(code=code.value[0], message=self.message)
        status.details.extend(_pack(detail) for detail in self._details())
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort_with_status returned")

    def _details(self) -> list[Message]:
        metadata = {"field": self.field, "limit": self.limit, "got": self.got}
        details: list[Message] = [
            error_details_pb2.ErrorInfo(reason=self.reason, domain=ERROR_DOMAIN, metadata=metadata)
        ]
        if self.retry_after_s is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(round(self.retry_after_s * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        return details


def _pack(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def decode_inputs(tensor: tensor_pb2.Tensor, model: FakeModel, clean: bool) -> NDArray[Any]:
    """Images [n, h, w, c] in [0,1], float64; `clean` ones may not leave that range."""
    images = _decode(tensor, _DTYPES, "inputs")
    if images.shape[1:] != model.shape:
        _refuse_shape("inputs", images.shape, f"[n, {', '.join(map(str, model.shape))}]")
    scaled = images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)
    low, high = (0.0, 1.0) if clean else (-16.0, 16.0)
    if not ((scaled >= low) & (scaled <= high)).all():
        raise RefusedError(
            "INVALID_VALUE",
            f"inputs.data has a value outside [{low:g}, {high:g}]",
            field="inputs.data",
            limit=f"[{low:g}, {high:g}]",
        )
    return scaled


def decode_radii(request: f2i_pb2.PerturbRequest, n: int) -> NDArray[np.float64]:
    """Feature-space radii R', float64 [n]."""
    field = "target.ball.radii"
    radii = _decode(request.ball.radii, _RADIUS_DTYPES, field).astype(np.float64)
    if radii.shape != (n,):
        _refuse_shape(field, radii.shape, f"[{n}]")
    for index, radius in enumerate(radii):
        if not 0 < radius <= _LARGEST_RADIUS:
            raise RefusedError(
                "INVALID_RADIUS",
                f"{field}[{index}] is {radius}; it must be above 0, at most {_LARGEST_RADIUS:g}",
                field=f"{field}[{index}]",
                limit=f"above 0, at most {_LARGEST_RADIUS:g}",
                got=radius,
            )
    return radii


def decode_margins(
    margins: f2i_pb2.MarginTarget, n: int, feature_dim: int, limits: model_pb2.Limits
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Normals [n, s, m, d], offsets [n, s, m] and the radii [n, s] within which they hold."""
    field = "target.margins.normals"
    normals = _decode(margins.normals, _FLOAT64, field)
    sets, rows = _sets_and_rows(normals.shape)
    most = (limits.max_margin_sets, limits.max_margin_rows)
    outer = (normals.shape[0], normals.shape[-1])
    if outer != (n, feature_dim) or not 1 <= sets <= most[0] or not 1 <= rows <= most[1]:
        _refuse_shape(field, normals.shape, f"[{n}, 1 to {most[0]}, 1 to {most[1]}, {feature_dim}]")
    offsets = _decode(margins.offsets, _FLOAT64, "target.margins.offsets")
    if offsets.shape != normals.shape[:-1]:
        _refuse_shape("target.margins.offsets", offsets.shape, f"{list(normals.shape[:-1])}")
    for name, values in (("normals", normals), ("offsets", offsets)):
        if not np.isfinite(values).all():
            field = f"target.margins.{name}.data"
            raise RefusedError("INVALID_VALUE", f"{field} is not finite", field=field)
    within = np.full((n, sets), np.inf)
    if margins.HasField("valid_within"):
        within = _decode_within(margins.valid_within, normals.shape)
    return normals.reshape(n, sets, rows, -1), offsets.reshape(n, sets, rows), within


def _sets_and_rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """Of normals [n, m, d] or [n, s, m, d]; zeros for another rank."""
    match shape:
        case (_, sets, rows, _):
            return sets, rows
        case (_, rows, _):
            return 1, rows
    return 0, 0


def _decode_within(tensor: tensor_pb2.Tensor, normals: tuple[int, ...]) -> NDArray[np.float64]:
    field = "target.margins.valid_within"
    within = _decode(tensor, _FLOAT64, field)
    if len(normals) != 4:
        _refuse_shape("target.margins.normals", normals, "[n, s, m, d] with valid_within")
    if within.shape != normals[:2]:
        _refuse_shape(field, within.shape, f"{list(normals[:2])}")
    if not (within > 0).all():
        raise RefusedError(
            "INVALID_RADIUS", f"{field} has a value not above 0", field=f"{field}.data"
        )
    return within


def check_method(method: f2i_pb2.Method, allowed: Collection[f2i_pb2.Method], target: str) -> None:
    """Refuses a bound that does not certify this kind of target."""
    if method not in allowed:
        raise RefusedError(
            "INVALID_METHOD", f"method is {method}; it does not certify {target}", field="method"
        )


def check_search(search: f2i_pb2.SearchOptions, max_steps: int) -> None:
    """Refuses options of a search that no service takes."""
    for name, ok in (
        ("max_steps", 0 <= search.max_steps <= max_steps),
        ("relative_tolerance", 0 <= search.relative_tolerance < 1),
    ):
        if not ok:
            field, got = f"search.{name}", getattr(search, name)
            raise RefusedError("INVALID_SEARCH", f"{field} is {got}", field=field, got=got)


def _decode(
    tensor: tensor_pb2.Tensor, dtypes: Mapping[tensor_pb2.DataType, str], field: str
) -> NDArray[Any]:
    if tensor.dtype not in dtypes:
        raise RefusedError(
            "INVALID_DTYPE", f"{field}.dtype is {tensor.dtype}", field=f"{field}.dtype"
        )
    shape, dtype = tuple(tensor.shape), np.dtype(dtypes[tensor.dtype])
    if not shape or min(shape) < 1:
        empty = field == "inputs" and shape and shape[0] == 0
        reason = "EMPTY_BATCH" if empty else "INVALID_SHAPE"
        raise RefusedError(reason, f"{field}.shape is {list(shape)}", field=f"{field}.shape")
    need = math.prod(shape) * dtype.itemsize
    if len(tensor.data) != need:
        raise RefusedError(
            "INVALID_DATA_LENGTH",
            f"{field}.data has {len(tensor.data)} bytes, its shape needs {need}",
            field=f"{field}.data",
            limit=need,
            got=len(tensor.data),
        )
    return np.frombuffer(tensor.data, dtype).reshape(shape)


def _refuse_shape(field: str, shape: tuple[int, ...], limit: str) -> NoReturn:
    raise RefusedError(
        "INVALID_SHAPE",
        f"{field}.shape is {list(shape)}; it must be {limit}",
        field=f"{field}.shape",
        limit=limit,
        got=list(shape),
    )
