"""What a service refuses on purpose, and why. `status.py` gives the gRPC codes."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Stable names of refusals; clients switch on them (`ErrorInfo.reason`)."""

    UNDECODABLE_MESSAGE = "UNDECODABLE_MESSAGE"
    INVALID_SHAPE = "INVALID_SHAPE"
    INVALID_DTYPE = "INVALID_DTYPE"
    INVALID_VALUE = "INVALID_VALUE"
    EMPTY_BATCH = "EMPTY_BATCH"
    INVALID_DATA_LENGTH = "INVALID_DATA_LENGTH"
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    MODEL_NAME_MISSING = "MODEL_NAME_MISSING"
    MODEL_NOT_FOUND = "MODEL_NOT_FOUND"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    MODEL_BROKEN = "MODEL_BROKEN"
    UNSUPPORTED_OPERATOR = "UNSUPPORTED_OPERATOR"
    INVALID_RADIUS = "INVALID_RADIUS"
    INVALID_METHOD = "INVALID_METHOD"
    MISSING_TARGET = "MISSING_TARGET"
    INVALID_SEARCH = "INVALID_SEARCH"
    INVALID_METADATA = "INVALID_METADATA"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    INVALID_RECIPE = "INVALID_RECIPE"
    INVALID_DATASET = "INVALID_DATASET"
    INVALID_REQUEST_ID = "INVALID_REQUEST_ID"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    INVALID_PAGE = "INVALID_PAGE"
    INVALID_VERSION = "INVALID_VERSION"
    VERSION_EXISTS = "VERSION_EXISTS"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    RUN_NOT_SUCCEEDED = "RUN_NOT_SUCCEEDED"
    RUN_BROKEN = "RUN_BROKEN"
    PUBLISH_FAILED = "PUBLISH_FAILED"
    STORAGE_FULL = "STORAGE_FULL"
    QUEUE_FULL = "QUEUE_FULL"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    TOO_MANY_CALLS = "TOO_MANY_CALLS"
    NOT_READY = "NOT_READY"
    DRAINING = "DRAINING"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    INTERNAL = "INTERNAL"


class DomainError(Exception):
    """A refusal that the caller is told about.

    `message` is one sentence for people that names the field, the value got and the limit; `field`,
    `got` and `limit` say the same for programs. `retry_after_s` is set where waiting helps.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        got: object = "",
        limit: object = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.got = str(got)
        self.limit = str(limit)
        self.retry_after_s = retry_after_s


class ConfigurationError(Exception):
    """The service cannot start as configured; the message tells the operator what to change."""
