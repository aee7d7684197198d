"""What a service refuses on purpose, and why. `status.py` gives the gRPC codes."""

from __future__ import annotations

from enum import StrEnum

# A status travels in HTTP/2 headers, which clients cap at 8 KiB, and its texts more than once. What
# the caller sent, and is quoted, may be longer.
_LONGEST_MESSAGE = 500
_LONGEST_VALUE = 200


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
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    UNKNOWN_METHOD = "UNKNOWN_METHOD"
    INTERNAL = "INTERNAL"


class DomainError(Exception):
    """A refusal that the caller is told about.

    `message` is one sentence for people that names the field, the value got and the limit; `field`,
    `got` and `limit` say the same for programs. All are cut to what a status, and a line of the
    log, can take. `retry_after_s` is set where waiting helps.
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
        self.message = shortened(message, _LONGEST_MESSAGE)
        super().__init__(self.message)
        self.reason = reason
        self.field = shortened(field, _LONGEST_VALUE)
        self.got = shortened(str(got), _LONGEST_VALUE)
        self.limit = shortened(str(limit), _LONGEST_VALUE)
        self.retry_after_s = retry_after_s


class ConfigurationError(Exception):
    """The service cannot start as configured; the message tells the operator what to change."""


def shortened(text: str, most: int) -> str:
    """`text`, cut so that it takes at most `most` bytes as UTF-8."""
    # A character takes a byte at least: never encode what is far too long.
    raw = text[: most + 1].encode(errors="replace")
    if len(raw) <= most:
        return text
    return raw[: most - 3].decode(errors="ignore") + "..."
