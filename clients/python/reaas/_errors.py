"""What can go wrong, as exceptions.

ReaasError
├── InvalidArgumentError        the request breaks a rule; it never helps to send it again
├── UnauthenticatedError        no API key, or one that the service does not know
├── ModelNotFoundError          no such model or version
├── DigestMismatchError         the answer would come from another encoder than the one asked for
├── ModelUnusableError          the model is there but broken, or has an operator that F2I refuses
├── OverloadedError             the queue is full; `retry_after_s` says when to come back
├── DeadlineExceededError       no answer within the time allowed
├── ServiceUnavailableError     nothing listens, the connection broke, or the service is draining
├── ProtocolError               the answer breaks the contract; it was thrown away
└── ServerError                 a fault inside the service
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

ERROR_DOMAIN = "reaas"
CLOSED = "this client is closed"
UNDECODABLE_REPLY = "the reply is not the message that the contract names"
_DETAILS_KEY = "grpc-status-details-bin"


class ReaasError(Exception):
    """Base of every exception that this package raises on purpose."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        field: str = "",
        limit: str = "",
        got: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        """Stable word for programs, for example "INVALID_SHAPE"; empty where there is none."""
        self.field = field
        """Field of the request that is wrong, for example "inputs.shape"."""
        self.limit = limit
        """What the field may be."""
        self.got = got
        """What it was."""
        self.retry_after_s = retry_after_s
        """Seconds after which the service asks to be tried again; None: it did not ask."""


class InvalidArgumentError(ReaasError, ValueError):
    """The request breaks a rule: see `field`, `limit` and `got`."""


class UnauthenticatedError(ReaasError):
    """No API key, or one that the service does not know."""


class ModelNotFoundError(ReaasError):
    """The service has no model of this name or version."""


class DigestMismatchError(ReaasError):
    """The answer is, or would be, of another encoder than the one asked for."""


class ModelUnusableError(ReaasError):
    """The model is in the repository, but broken or with an operator that cannot be bounded."""


class OverloadedError(ReaasError):
    """The service has more work than it takes; `retry_after_s` says when to come back."""


class DeadlineExceededError(ReaasError, TimeoutError):
    """No answer within the time allowed."""


class ServiceUnavailableError(ReaasError):
    """Nothing listens at the address, the connection broke, or the service is draining."""


class ProtocolError(ReaasError):
    """The peer broke the contract, so nothing that it said is used."""


class ServerError(ReaasError):
    """A fault inside the service; its log has more."""


# A reason says more than a status code: "BATCH_TOO_LARGE" travels as RESOURCE_EXHAUSTED, but the
# same message will never fit.
_BY_REASON: dict[str, type[ReaasError]] = {
    "BATCH_TOO_LARGE": InvalidArgumentError,
    "DIGEST_MISMATCH": DigestMismatchError,
}
_BY_CODE: dict[grpc.StatusCode, type[ReaasError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: UnauthenticatedError,
    grpc.StatusCode.NOT_FOUND: ModelNotFoundError,
    grpc.StatusCode.FAILED_PRECONDITION: ModelUnusableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.UNAVAILABLE: ServiceUnavailableError,
    # By the server, which is on its way out: what this side cancels is no failed call.
    grpc.StatusCode.CANCELLED: ServiceUnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: ProtocolError,
}


class _FailedCall(Protocol):
    """What grpc.RpcError of a sync call and grpc.aio.AioRpcError have in common."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> object: ...


# What is wrong with one service of several, and not with a request: the message says with which.
_ABOUT_THE_SERVICE = (OverloadedError, ServiceUnavailableError, ServerError, UnauthenticatedError)


@dataclass(frozen=True)
class _Details:
    """The google.rpc details of a failed call that this package understands."""

    reason: str = ""
    field: str = ""
    limit: str = ""
    got: str = ""
    retry_after_s: float | None = None


def error_of_call(call: _FailedCall, address: str) -> ReaasError:
    """The exception for a failed call to `address`, with what its google.rpc details say."""
    code, details = call.code(), _read_details(call.trailing_metadata())
    kind = _BY_REASON.get(details.reason) or _BY_CODE.get(code, ServerError)
    message = call.details() or code.name
    if message.startswith("Exception deserializing response"):  # said by gRPC on this side
        kind, message = ProtocolError, UNDECODABLE_REPLY
    if not details.reason:  # Not a sentence of a REaaS service.
        message = f"{address}: {message} ({code.name})"
    elif kind in _ABOUT_THE_SERVICE:
        message = f"{address}: {message}"
    return kind(
        message,
        reason=details.reason,
        field=details.field,
        limit=details.limit,
        got=details.got,
        retry_after_s=details.retry_after_s,
    )


def _read_details(trailing_metadata: object) -> _Details:
    for key, value in trailing_metadata or ():  # type: ignore[attr-defined]
        if key == _DETAILS_KEY:
            try:
                return _parse_status(status_pb2.Status.FromString(value))
            except DecodeError:  # A proxy's own details: the status code still stands.
                return _Details()
    return _Details()


def _parse_status(status: status_pb2.Status) -> _Details:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        if detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
        elif detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    if info.domain != ERROR_DOMAIN:
        return _Details(retry_after_s=retry_after_s)
    known = {key: info.metadata.get(key, "") for key in ("field", "limit", "got")}
    return _Details(reason=info.reason, retry_after_s=retry_after_s, **known)
