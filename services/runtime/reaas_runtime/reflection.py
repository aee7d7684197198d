"""Server reflection: what tools ask for the contract, as v1 and as v1alpha."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = reflection.SERVICE_NAME
_METHOD = "ServerReflectionInfo"


def add_reflection(services: Sequence[str], server: grpc.aio.Server) -> None:
    """Describe `services` to whoever asks.

    v1 has the messages of v1alpha in a package of its own; on the wire they are the same.
    """
    answers = reflection.aio.ReflectionServicer((*services, V1, V1ALPHA))
    handler = grpc.stream_stream_rpc_method_handler(
        answers.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1, V1ALPHA):
        server.add_registered_method_handlers(name, {_METHOD: handler})
