"""Every refusal of a service is one typed exception with what the service said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import reaas
from google.rpc import status_pb2
from reaas.testing import FakeServer

from tests.sdk.samples import make_images

ONCE = reaas.ChannelOptions(retry_for_s=0)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("UNDECODABLE_MESSAGE", reaas.InvalidArgumentError),
        ("INVALID_SHAPE", reaas.InvalidArgumentError),
        ("INVALID_DTYPE", reaas.InvalidArgumentError),
        ("INVALID_VALUE", reaas.InvalidArgumentError),
        ("EMPTY_BATCH", reaas.InvalidArgumentError),
        ("INVALID_DATA_LENGTH", reaas.InvalidArgumentError),
        ("BATCH_TOO_LARGE", reaas.InvalidArgumentError),
        ("MODEL_NAME_MISSING", reaas.InvalidArgumentError),
        ("MODEL_NOT_FOUND", reaas.ModelNotFoundError),
        ("DIGEST_MISMATCH", reaas.DigestMismatchError),
        ("MODEL_BROKEN", reaas.ModelUnusableError),
        ("UNSUPPORTED_OPERATOR", reaas.ModelUnusableError),
        ("INVALID_RADIUS", reaas.InvalidArgumentError),
        ("INVALID_METHOD", reaas.InvalidArgumentError),
        ("MISSING_TARGET", reaas.InvalidArgumentError),
        ("INVALID_SEARCH", reaas.InvalidArgumentError),
        ("INVALID_METADATA", reaas.InvalidArgumentError),
        ("UNAUTHENTICATED", reaas.UnauthenticatedError),
        ("QUEUE_FULL", reaas.OverloadedError),
        ("DRAINING", reaas.ServiceUnavailableError),
        ("DEADLINE_TOO_SHORT", reaas.DeadlineExceededError),
        ("INTERNAL", reaas.ServerError),
    ],
)
def test_each_reason_has_its_exception(
    server: FakeServer, make_client: Any, images: Any, reason: str, kind: type[reaas.ReaasError]
) -> None:
    client = make_client(server.address, options=ONCE)
    server.fail_next(reason, retry_after_s=1.5)
    with pytest.raises(
        kind, match=f"^({server.address}: )?{reason} by request of the test$"
    ) as caught:
        client.encode(images, "fake")
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert caught.value.retry_after_s == 1.5
    assert len(client.encode(images, "fake")) == len(images)


def test_field_limit_and_value_are_told(client: Any) -> None:
    with pytest.raises(reaas.InvalidArgumentError) as caught:
        client.encode(make_images(2).reshape(2, 3, 4, 4), "fake")
    error = caught.value
    assert (error.field, error.limit) == ("inputs.shape", "[n, 4, 4, 3]")
    assert error.got == "[2, 3, 4, 4]"
    assert "inputs.shape" in str(error)


def test_exceptions_are_also_what_python_calls_them() -> None:
    assert issubclass(reaas.InvalidArgumentError, ValueError)
    assert issubclass(reaas.DeadlineExceededError, TimeoutError)


def test_nothing_listening_names_the_address(make_client: Any, images: Any) -> None:
    client = make_client("127.0.0.1:1", options=ONCE)
    with pytest.raises(reaas.ServiceUnavailableError, match=r"127\.0\.0\.1:1: .*UNAVAILABLE"):
        client.encode(images, "fake")


@contextmanager
def _foreign(**methods: Callable[[Any, Any], Any]) -> Iterator[str]:
    """The address of a server whose EncoderService has only these methods, on raw bytes."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(1))
    service = grpc.method_handlers_generic_handler("reaas.v1.EncoderService", handlers)
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_the_wrong_service_behind_an_address_is_a_protocol_error(make_client: Any) -> None:
    with (
        _foreign() as address,
        pytest.raises(reaas.ProtocolError, match=f"^{address}: .*UNIMPLEMENTED"),
    ):
        make_client(f2i=address).info("f2i")


def test_statuses_of_a_proxy_are_understood_without_details(make_client: Any) -> None:
    with _foreign(GetInfo=_come_back, ListModels=_mesh_says_no) as address:
        client = make_client(address)
        with pytest.raises(reaas.OverloadedError, match="come back") as caught:
            client.info()
        assert (caught.value.reason, caught.value.retry_after_s) == ("", None)
        with pytest.raises(reaas.UnauthenticatedError, match="mesh"):
            client.models()


def _come_back(request: Any, context: Any) -> Any:
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back")


def _mesh_says_no(request: Any, context: Any) -> Any:
    context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"),))
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "mesh says no")


def _garbage(request: Any, context: Any) -> Any:
    return b"\xff\xff"


def test_details_of_another_domain_are_not_read_as_ours() -> None:
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2
    from reaas._errors import _parse_status

    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(reason="DIGEST_MISMATCH", domain="example.com"))
    assert _parse_status(status_pb2.Status(details=[packed])).reason == ""


def test_bytes_that_are_no_message_are_a_protocol_error(make_client: Any) -> None:
    with (
        _foreign(GetInfo=_garbage) as address,
        pytest.raises(reaas.ProtocolError, match="not the message that the contract names"),
    ):
        make_client(address).info()
