"""Domain errors as gRPC statuses with `google.rpc` details: the only place that picks codes."""

from __future__ import annotations

import traceback
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from reaas_runtime.errors import DomainError, Reason

DOMAIN = "reaas"

_Code = grpc.StatusCode
CODES: dict[Reason, grpc.StatusCode] = {
    Reason.UNDECODABLE_MESSAGE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_SHAPE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_DTYPE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_VALUE: _Code.INVALID_ARGUMENT,
    Reason.EMPTY_BATCH: _Code.INVALID_ARGUMENT,
    Reason.INVALID_DATA_LENGTH: _Code.INVALID_ARGUMENT,
    Reason.MODEL_NAME_MISSING: _Code.INVALID_ARGUMENT,
    Reason.INVALID_RADIUS: _Code.INVALID_ARGUMENT,
    Reason.INVALID_METHOD: _Code.INVALID_ARGUMENT,
    Reason.MISSING_TARGET: _Code.INVALID_ARGUMENT,
    Reason.INVALID_SEARCH: _Code.INVALID_ARGUMENT,
    Reason.INVALID_METADATA: _Code.INVALID_ARGUMENT,
    Reason.UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: _Code.PERMISSION_DENIED,
    Reason.INVALID_RECIPE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_DATASET: _Code.INVALID_ARGUMENT,
    Reason.INVALID_REQUEST_ID: _Code.INVALID_ARGUMENT,
    Reason.INVALID_PAGE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_VERSION: _Code.INVALID_ARGUMENT,
    Reason.REQUEST_ID_REUSED: _Code.ALREADY_EXISTS,
    Reason.VERSION_EXISTS: _Code.ALREADY_EXISTS,
    Reason.RUN_NOT_FOUND: _Code.NOT_FOUND,
    Reason.RUN_NOT_SUCCEEDED: _Code.FAILED_PRECONDITION,
    Reason.RUN_BROKEN: _Code.FAILED_PRECONDITION,
    Reason.PUBLISH_FAILED: _Code.FAILED_PRECONDITION,
    Reason.STORAGE_FULL: _Code.RESOURCE_EXHAUSTED,
    Reason.MODEL_NOT_FOUND: _Code.NOT_FOUND,
    Reason.DIGEST_MISMATCH: _Code.FAILED_PRECONDITION,
    Reason.MODEL_BROKEN: _Code.FAILED_PRECONDITION,
    Reason.UNSUPPORTED_OPERATOR: _Code.FAILED_PRECONDITION,
    Reason.BATCH_TOO_LARGE: _Code.RESOURCE_EXHAUSTED,
    Reason.QUEUE_FULL: _Code.RESOURCE_EXHAUSTED,
    Reason.QUOTA_EXCEEDED: _Code.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY_CALLS: _Code.RESOURCE_EXHAUSTED,
    Reason.NOT_READY: _Code.UNAVAILABLE,
    Reason.DRAINING: _Code.UNAVAILABLE,
    Reason.DEADLINE_TOO_SHORT: _Code.DEADLINE_EXCEEDED,
    Reason.MESSAGE_TOO_LARGE: _Code.RESOURCE_EXHAUSTED,
    Reason.UNKNOWN_METHOD: _Code.UNIMPLEMENTED,
    Reason.INTERNAL: _Code.INTERNAL,
}


def code_of(error: DomainError) -> grpc.StatusCode:
    """The gRPC code that `error` is answered with."""
    return CODES[error.reason]


def to_status(error: DomainError) -> status_pb2.Status:
    """`error` as google.rpc.Status: ErrorInfo always, BadRequest and RetryInfo where they apply."""
    message = error.message
    details: list[Message] = [_error_info(error)]
    if code_of(error) is _Code.INVALID_ARGUMENT and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=error.field, description=message
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=code_of(error).value[0], message=message, details=[_packed(d) for d in details]
    )


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: DomainError) -> NoReturn:
    """End the call with the status of `error`, and let go of the message that it is about."""
    forget(error)
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details or "", status.trailing_metadata or ())
    raise AssertionError("context.abort returned")  # pragma: no cover


def forget(error: BaseException) -> None:
    """Let go of what an error holds by its traceback: the frames, and in them the message.

    gRPC keeps the exception that ends a call, which keeps `error` as its context, in a circle that
    only the garbage collector breaks: after gigabytes of refused messages.
    """
    seen: BaseException | None = error
    while seen is not None:
        following = seen.__cause__ or seen.__context__
        traceback.clear_frames(seen.__traceback__)
        seen.__traceback__ = seen.__cause__ = seen.__context__ = None
        seen = following


def _error_info(error: DomainError) -> error_details_pb2.ErrorInfo:
    metadata = {"field": error.field, "got": error.got, "limit": error.limit}
    present = {key: value for key, value in metadata.items() if value}
    return error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=present)


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed
