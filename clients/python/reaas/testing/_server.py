"""The fake server: both services on one loopback port, in this process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import grpc
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from numpy.typing import NDArray

from reaas._ledger import Ledger, LedgerKey, Usage
from reaas._model import Method, ModelRef, Phase, Scheme
from reaas._protocol import message_bytes
from reaas._tensor import to_tensor
from reaas.testing._model import FakeModel
from reaas.testing._refusal import (
    RefusedError,
    check_method,
    check_search,
    decode_inputs,
    decode_margins,
    decode_radii,
)
from reaas.v1 import encoder_pb2, encoder_pb2_grpc, f2i_pb2, f2i_pb2_grpc, model_pb2

_CLOSED_FORM = {
    f2i_pb2.METHOD_UNSPECIFIED: Method.LIPSCHITZ,
    f2i_pb2.METHOD_AUTO: Method.LIPSCHITZ,  # It is the largest of all here.
    f2i_pb2.METHOD_LIPSCHITZ: Method.LIPSCHITZ,
}
_BALL_METHODS = {
    **_CLOSED_FORM,
    f2i_pb2.METHOD_CROWN: Method.CROWN,
    f2i_pb2.METHOD_IBP: Method.IBP,
    f2i_pb2.METHOD_LOCAL: Method.LOCAL,
    f2i_pb2.METHOD_CROWN_JOINT: Method.CROWN_JOINT,
}
_MARGIN_METHODS = {
    **_CLOSED_FORM,
    f2i_pb2.METHOD_CROWN: Method.CROWN,
    f2i_pb2.METHOD_IBP: Method.IBP,
    f2i_pb2.METHOD_ENVELOPE: Method.ENVELOPE,
    f2i_pb2.METHOD_LOCAL: Method.ENVELOPE,
    f2i_pb2.METHOD_CROWN_JOINT: Method.CROWN,
}
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),  # As the services: clients ping.
    ("grpc.keepalive_permit_without_calls", 1),
]


class FakeServer:
    """A REaaS server with linear encoders; a context manager that serves while it is open.

    `api_keys` maps keys to client ids; None: every caller is `anonymous`. `port` 0 takes a free
    one. With `credentials` it speaks TLS. All of it runs on threads of this process.
    """

    def __init__(
        self,
        models: Sequence[FakeModel] = (FakeModel(),),
        *,
        api_keys: Mapping[str, str] | None = None,
        max_batch_inputs: int = 1024,
        max_request_bytes: int = 256 * 2**20,
        default_deadline_s: float = 60.0,
        credentials: grpc.ServerCredentials | None = None,
        port: int = 0,
    ) -> None:
        self.models = list(models)
        """What is served; a test may change it while the server runs."""
        self.api_keys = api_keys
        self.limits = model_pb2.Limits(
            max_batch_inputs=max_batch_inputs,
            max_request_bytes=max_request_bytes,
            max_response_bytes=256 * 2**20,
            max_pending_inputs=4 * max_batch_inputs,
            max_search_steps=64,
            max_margin_rows=512,
            max_margin_sets=16,
            default_deadline=duration_pb2.Duration(seconds=int(default_deadline_s)),
        )
        self.meter = Ledger()
        """Queries and bytes answered, counted as the services do."""
        self.delay_s = 0.0
        """Time that every query takes."""
        self.tamper: Callable[[Any], Any] = lambda reply: reply
        """Called with each reply before it is sent, to change it or to change the server."""
        self._failures: deque[RefusedError] = deque()
        self._credentials = credentials
        self._port = port
        self._server: grpc.Server | None = None
        self._lock = threading.Lock()

    @property
    def model(self) -> FakeModel:
        """The first model."""
        return self.models[0]

    @property
    def address(self) -> str:
        """`host:port` of both services."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serves, on the same port each time."""
        server = grpc.server(ThreadPoolExecutor(max_workers=8), options=_OPTIONS)
        encoder_pb2_grpc.add_EncoderServiceServicer_to_server(_Encoder(self), server)
        f2i_pb2_grpc.add_F2IServiceServicer_to_server(_F2I(self), server)
        if self._credentials is None:
            self._port = server.add_insecure_port(self.address)
        else:
            self._port = server.add_secure_port(self.address, self._credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Breaks every call and connection."""
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fail_next(self, reason: str, count: int = 1, *, retry_after_s: float | None = None) -> None:
        """The next `count` queries get this typed error instead of an answer."""
        message = f"{reason} by request of the test"
        self._failures.extend([RefusedError(reason, message, retry_after_s=retry_after_s)] * count)

    def client_of(self, metadata: Mapping[str, str]) -> str:
        """The id of a caller, or a refusal."""
        if self.api_keys is None:
            return "anonymous"
        key = metadata.get("authorization", "").removeprefix("Bearer ")
        if key not in self.api_keys:
            raise RefusedError("UNAUTHENTICATED", "the API key is missing or unknown")
        return self.api_keys[key]

    def find(self, ref: model_pb2.ModelRef) -> FakeModel:
        """The model that a request names, or a refusal."""
        if not ref.name:
            raise RefusedError("MODEL_NAME_MISSING", "model.name is empty", field="model.name")
        named = [model for model in self.models if ref.name == model.name]
        served = [model for model in named if ref.version in ("", model.version)]
        if not served:
            field, got = ("model.version", ref.version) if named else ("model.name", ref.name)
            message = f"{field} is {got}; there is no such model"
            raise RefusedError("MODEL_NOT_FOUND", message, field=field, got=got)
        model = served[-1]
        if ref.digest not in ("", model.ref.digest):
            raise RefusedError(
                "DIGEST_MISMATCH",
                f"model.digest is {ref.digest}, served is {model.ref.digest}",
                field="model.digest",
                limit=model.ref.digest,
                got=ref.digest,
            )
        return model

    def answer(
        self, api: str, request: Any, context: Any, work: Callable[[Any], Message]
    ) -> Message:
        """One query message: checks, work, metering."""
        try:
            metadata = dict(context.invocation_metadata())
            self.client_of(metadata)
            key = _ledger_key(api, metadata, request.model.name)
            with self._lock:
                if self._failures:
                    raise self._failures.popleft()
            self._check_size(request)
            time.sleep(self.delay_s)
            reply: Message = self.tamper(work(request))
        except RefusedError as refusal:
            refusal.abort(context)
        count = request.inputs.shape[0]
        self.meter.add(key, Usage(count, message_bytes(request), message_bytes(reply)))
        return reply

    def _check_size(self, request: Any) -> None:
        limits, n = self.limits, (request.inputs.shape or [0])[0]
        for field, got, limit in (
            ("inputs.shape", n, limits.max_batch_inputs),
            ("message", request.ByteSize(), limits.max_request_bytes),
        ):
            if got > limit:
                message = f"{field} is {got}; at most {limit}"
                raise RefusedError("BATCH_TOO_LARGE", message, field=field, limit=limit, got=got)


def _ledger_key(api: str, metadata: Mapping[str, str], model: str) -> LedgerKey:
    scheme = metadata.get("x-reaas-scheme", Scheme.REAAS)
    phase = metadata.get("x-reaas-phase", Phase.TEST)
    if scheme not in list(Scheme) or phase not in list(Phase):
        raise RefusedError(
            "INVALID_METADATA", f"x-reaas-scheme is {scheme}, x-reaas-phase is {phase}"
        )
    return LedgerKey(api, scheme, phase, model)


def _message(ref: ModelRef) -> model_pb2.ModelRef:
    return model_pb2.ModelRef(name=ref.name, version=ref.version, digest=ref.digest)


class _Info:
    """What both services tell about themselves."""

    name: str

    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    def ListModels(self, request: model_pb2.ListModelsRequest, context: Any) -> Message:  # noqa: N802
        """Every model; the last of a name is its latest."""
        self._client(context)
        latest = {model.name: model for model in self._fake.models}
        chosen = [m for m in self._fake.models if request.name in ("", m.name)]
        return model_pb2.ListModelsResponse(
            models=[model.info(latest[model.name] is model) for model in chosen]
        )

    def GetInfo(self, request: model_pb2.GetInfoRequest, context: Any) -> Message:  # noqa: N802
        """The limits of this fake."""
        return model_pb2.GetInfoResponse(
            release="fake",
            service=self.name,
            limits=self._fake.limits,
            backends=["numpy"],
            client_id=self._client(context),
        )

    def _client(self, context: Any) -> str:
        try:
            return self._fake.client_of(dict(context.invocation_metadata()))
        except RefusedError as refusal:
            refusal.abort(context)


class _Encoder(_Info, encoder_pb2_grpc.EncoderServiceServicer):  # type: ignore[misc]
    name = "reaas.v1.EncoderService"

    def Encode(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._fake.answer("feature", request, context, self._encode)

    def EncodeStream(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in request_iterator:
            yield self.Encode(request, context)

    def _encode(self, request: encoder_pb2.EncodeRequest) -> Message:
        model = self._fake.find(request.model)
        features = model.encode(decode_inputs(request.inputs, model, clean=False))
        return encoder_pb2.EncodeResponse(model=_message(model.ref), features=to_tensor(features))


class _F2I(_Info, f2i_pb2_grpc.F2IServiceServicer):  # type: ignore[misc]
    name = "reaas.v1.F2IService"

    def Perturb(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._fake.answer("f2iperturb", request, context, self._perturb)

    def PerturbStream(self, request_iterator: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in request_iterator:
            yield self.Perturb(request, context)

    def _perturb(self, request: f2i_pb2.PerturbRequest) -> Message:
        model = self._fake.find(request.model)
        images = decode_inputs(request.inputs, model, clean=True)
        check_search(request.search, self._fake.limits.max_search_steps)
        return f2i_pb2.PerturbResponse(
            model=_message(model.ref), results=self._results(model, images, request)
        )

    def _results(
        self, model: FakeModel, images: NDArray[Any], request: f2i_pb2.PerturbRequest
    ) -> list[f2i_pb2.PerturbResult]:
        match request.WhichOneof("target"):
            case "ball":
                check_method(request.method, _BALL_METHODS, "a ball")
                method = _BALL_METHODS[request.method]
                radii = model.radius(images, decode_radii(request, len(images)), method)
                return [_result(radius, method) for radius in radii]
            case "margins":
                check_method(request.method, _MARGIN_METHODS, "margins")
                method, limits = _MARGIN_METHODS[request.method], self._fake.limits
                target = decode_margins(request.margins, len(images), model.feature_dim, limits)
                return [
                    _result(
                        radius,
                        Method.LIPSCHITZ if by_ball else method,
                        margin_set=margin_set,
                        limited_by_ball=by_ball,
                    )
                    for radius, margin_set, by_ball in model.margin_radius(images, *target).each()
                ]
        raise RefusedError("MISSING_TARGET", "target is not set", field="target")


def _result(radius: float, method: Method, **fields: Any) -> f2i_pb2.PerturbResult:
    name = f"METHOD_{method.name}"
    return f2i_pb2.PerturbResult(
        radius=radius, method=name, upper=radius, steps=1, converged=True, **fields
    )
