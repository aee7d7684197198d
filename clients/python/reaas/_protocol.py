"""The contract without any I/O: what to send, how to split it, what a reply must be.

Both clients, sync and async, drive this module; nothing here waits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from reaas._errors import DigestMismatchError, InvalidArgumentError, ProtocolError
from reaas._ledger import FRAME_BYTES
from reaas._model import (
    Features,
    Limits,
    Method,
    ModelRef,
    Radii,
    Service,
    as_ref,
)
from reaas._tensor import check_inputs, from_tensor, to_tensor
from reaas.v1 import encoder_pb2, f2i_pb2, model_pb2

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)
Answer = TypeVar("Answer", Features, Radii)

# What a request holds besides pixels and target: names, shape, options. Far above what they take.
_HEADER_BYTES = 4096
METHOD_NUMBERS = {
    Method.AUTO: f2i_pb2.METHOD_AUTO,
    Method.LIPSCHITZ: f2i_pb2.METHOD_LIPSCHITZ,
    Method.CROWN: f2i_pb2.METHOD_CROWN,
    Method.IBP: f2i_pb2.METHOD_IBP,
    Method.ENVELOPE: f2i_pb2.METHOD_ENVELOPE,
    Method.LOCAL: f2i_pb2.METHOD_LOCAL,
    Method.CROWN_JOINT: f2i_pb2.METHOD_CROWN_JOINT,
}
_CERTIFYING_METHODS = {
    number: method for method, number in METHOD_NUMBERS.items() if method is not Method.AUTO
}


@dataclass(frozen=True)
class Expected:
    """What must come back for one request message."""

    model: ModelRef
    count: int
    request_bytes: int


@dataclass(frozen=True)
class Api(Generic[Request, Reply, Answer]):
    """One metered API: where it is called, and how its replies are read."""

    name: str
    """Label `api` of the meters."""
    service: Service
    rpc: str
    """Name of the RPC."""
    read: Callable[[Expected, Reply], Answer]
    join: Callable[[Sequence[Answer]], Answer]
    divides_time: bool
    """Whether the messages of a split batch share the time left equally: a search uses up the time
    it is given, an encoding does not."""


def ref_to_message(ref: ModelRef) -> model_pb2.ModelRef:
    """A reference as it travels."""
    return model_pb2.ModelRef(name=ref.name, version=ref.version, digest=ref.digest)


def expected(request: Any) -> Expected:
    """What must come back for an EncodeRequest or a PerturbRequest."""
    model = request.model
    return Expected(
        ModelRef(model.name, model.version, model.digest),
        request.inputs.shape[0],
        message_bytes(request),
    )


def message_bytes(message: Message) -> int:
    """Bytes of a message as they are metered."""
    return message.ByteSize() + FRAME_BYTES


@dataclass(frozen=True)
class Batch(Generic[Request]):
    """A checked batch, and how a slice of it becomes a request message."""

    inputs: NDArray[Any]
    request: Callable[[slice], Request]
    extra_bytes: int = 0
    """What travels with each input besides itself."""

    def split(
        self, limits: Limits, preferred_bytes: int, most_inputs: int | None = None
    ) -> list[slice]:
        """Slices, nearly equal in size, that each fit into one message.

        `most_inputs`: what the caller wants in one at most. Raises InvalidArgumentError where a
        single input does not fit.
        """
        n, each = len(self.inputs), self.inputs[0].nbytes + self.extra_bytes
        most_bytes = (limits.max_request_bytes or math.inf) - _HEADER_BYTES
        if each > most_bytes:
            raise InvalidArgumentError(
                f"inputs: one input of shape {self.inputs.shape[1:]} takes {each} bytes; "
                f"the service takes messages of at most {limits.max_request_bytes}",
                reason="BATCH_TOO_LARGE",
                field="inputs",
                limit=str(limits.max_request_bytes),
                got=str(each),
            )
        fitting = max(1, int(min(most_bytes, preferred_bytes) // each))
        parts = math.ceil(n / min(fitting, limits.max_batch_inputs or n, most_inputs or n))
        edges = [n * part // parts for part in range(parts + 1)]
        return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def encode_batch(inputs: NDArray[Any], model: ModelRef | str) -> Batch[encoder_pb2.EncodeRequest]:
    """A batch for the Feature-API, or InvalidArgumentError."""
    images, ref = check_inputs(inputs), ref_to_message(as_ref(model))

    def request(part: slice) -> encoder_pb2.EncodeRequest:
        return encoder_pb2.EncodeRequest(model=ref, inputs=to_tensor(images[part]))

    return Batch(images, request)


def check_same_encoder(wanted: ModelRef, served: model_pb2.ModelRef) -> ModelRef:
    """The encoder that answered. Raises DigestMismatchError where it is not the one wanted."""
    answered = ModelRef(served.name, served.version, served.digest)
    if not (answered.name and answered.version and answered.digest):
        raise ProtocolError(f"reply: model is {str(answered)!r}; it must be name@version@digest")
    if not wanted.admits(answered):
        raise DigestMismatchError(
            f"asked for {wanted}, answered by {answered}; nothing was returned",
            reason="DIGEST_MISMATCH",
            field="model",
            limit=str(wanted),
            got=str(answered),
        )
    return answered


def check_one_encoder(answers: Sequence[Features] | Sequence[Radii]) -> ModelRef:
    """The encoder of all answers. Raises DigestMismatchError where there are two."""
    models = list(dict.fromkeys(answer.model for answer in answers))
    if len(models) > 1:
        raise DigestMismatchError(
            "the encoder changed in the middle of a batch, from "
            f"{models[0]} to {models[1]}; nothing was returned",
            reason="DIGEST_MISMATCH",
            field="model",
            limit=str(models[0]),
            got=str(models[1]),
        )
    return models[0]


def read_features(want: Expected, reply: encoder_pb2.EncodeResponse) -> Features:
    """Features [n, d] from one reply, or ProtocolError, or DigestMismatchError."""
    model = check_same_encoder(want.model, reply.model)
    values = from_tensor(reply.features, np.float32, 2, "features")
    if len(values) != want.count:
        raise ProtocolError(f"reply: {len(values)} features for {want.count} inputs")
    if not np.isfinite(values).all():
        raise ProtocolError("reply: features has a value that is not finite")
    return Features(model, values)


def join_features(parts: Sequence[Features]) -> Features:
    """One batch from the answers to its messages."""
    return Features(check_one_encoder(parts), np.concatenate([part.values for part in parts]))


def read_radii(want: Expected, reply: f2i_pb2.PerturbResponse) -> Radii:
    """Radii [n] from one reply, or ProtocolError, or DigestMismatchError."""
    model = check_same_encoder(want.model, reply.model)
    if len(reply.results) != want.count:
        raise ProtocolError(f"reply: {len(reply.results)} radii for {want.count} inputs")
    for index, result in enumerate(reply.results):
        _check_result(index, result)
    return Radii(
        model,
        np.array([result.radius for result in reply.results]),
        tuple(_CERTIFYING_METHODS[result.method] for result in reply.results),
        np.array([result.upper for result in reply.results]),
        np.array([result.steps for result in reply.results], dtype=np.int64),
        np.array([result.converged for result in reply.results]),
        np.array([result.margin_set for result in reply.results], dtype=np.int64),
        np.array([result.limited_by_ball for result in reply.results]),
    )


def _check_result(index: int, result: f2i_pb2.PerturbResult) -> None:
    where = f"reply: results[{index}]"
    if not (math.isfinite(result.radius) and result.radius >= 0):
        raise ProtocolError(f"{where}.radius is {result.radius}; it must be finite and >= 0")
    if not result.upper >= result.radius:
        raise ProtocolError(f"{where}.upper is {result.upper}, below radius {result.radius}")
    if result.method not in _CERTIFYING_METHODS:
        raise ProtocolError(f"{where}.method is {result.method}, which names no bound")
    if result.margin_set < 0:
        raise ProtocolError(f"{where}.margin_set is {result.margin_set}; it must be >= 0")


def join_radii(parts: Sequence[Radii]) -> Radii:
    """One batch from the answers to its messages."""
    return Radii(
        check_one_encoder(parts),
        np.concatenate([part.radius for part in parts]),
        tuple(method for part in parts for method in part.method),
        np.concatenate([part.upper for part in parts]),
        np.concatenate([part.steps for part in parts]),
        np.concatenate([part.converged for part in parts]),
        np.concatenate([part.margin_set for part in parts]),
        np.concatenate([part.limited_by_ball for part in parts]),
    )


FEATURE: Api[encoder_pb2.EncodeRequest, encoder_pb2.EncodeResponse, Features] = Api(
    name="feature",
    service=Service.ENCODER,
    rpc="Encode",
    read=read_features,
    join=join_features,
    divides_time=False,
)
F2IPERTURB: Api[f2i_pb2.PerturbRequest, f2i_pb2.PerturbResponse, Radii] = Api(
    name="f2iperturb",
    service=Service.F2I,
    rpc="Perturb",
    read=read_radii,
    join=join_radii,
    divides_time=True,
)
