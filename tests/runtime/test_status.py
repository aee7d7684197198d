from __future__ import annotations

import pytest
from google.rpc import code_pb2, error_details_pb2
from reaas_runtime import DomainError, Reason
from reaas_runtime.status import CODES, to_status


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_code_and_says_itself(reason: Reason) -> None:
    status = to_status(DomainError(reason, "Why.", field="a.b", got=3, limit="1 to 2"))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (reason.value, "reaas")
    assert dict(info.metadata) == {"field": "a.b", "got": "3", "limit": "1 to 2"}
    assert status.code == CODES[reason].value[0] != code_pb2.OK


def test_invalid_arguments_name_their_field_as_a_violation() -> None:
    status = to_status(DomainError(Reason.INVALID_SHAPE, "Why.", field="inputs.shape"))
    violations = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(violations)
    assert violations.field_violations[0].field == "inputs.shape"
    assert violations.field_violations[0].description == "Why."


def test_advice_when_to_retry() -> None:
    status = to_status(DomainError(Reason.QUEUE_FULL, "Full.", retry_after_s=1.5))
    advice = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(advice)
    assert advice.retry_delay.ToMilliseconds() == 1500


def test_what_a_caller_sent_cannot_blow_up_the_status() -> None:
    error = DomainError(Reason.MODEL_NOT_FOUND, "x" * 10_000, got="y" * 10_000)
    assert to_status(error).ByteSize() < 2000
