"""What is attacked: every method of every service with a real message of each kind, and canaries.

A canary is a secret that a careless log line would show: a key, an image, a radius, margins.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from numpy.typing import NDArray
from reaas.v1 import encoder_pb2, f2i_pb2, model_pb2, pretrain_pb2, tensor_pb2

# Digits that no clock, size or counter shows by chance.
CANARY_RADIUS = 0.7316498205164
CANARY_MARGIN = 5.8203917461528
CANARY_IMAGE = b"\xca\xfeCANARYOFTHEIMAGE\xca\xfe"
CANARIES = (
    str(CANARY_RADIUS)[:10],
    str(CANARY_MARGIN)[:10],
    "CANARYOFTHEIMAGE",
    ", ".join(str(byte) for byte in CANARY_IMAGE[:6]),
    " ".join(str(byte) for byte in CANARY_IMAGE[:6]),
)
_MODEL = model_pb2.ModelRef(name="moco-sn")


@dataclass(frozen=True)
class Method:
    """One method of a service, with real messages of it."""

    path: str
    seeds: tuple[Message, ...]
    streams: bool = False


def methods(service: str) -> list[Method]:
    """Everything that `encoder`, `f2i` or `pretrain` answers on its port."""
    return [*_OWN[service](), *_open_to_all()]


def _tensor(array: NDArray[np.generic]) -> tensor_pb2.Tensor:
    number = {"uint8": 1, "float32": 2, "float64": 3, "int64": 4}[str(array.dtype)]
    return tensor_pb2.Tensor(dtype=number, shape=array.shape, data=array.tobytes())  # type: ignore[arg-type]


def _images(count: int, size: int = 32) -> tensor_pb2.Tensor:
    images = np.random.default_rng(7).integers(0, 256, (count, size, size, 3), np.uint8)
    tensor = _tensor(images)
    tensor.data = (CANARY_IMAGE + tensor.data)[: len(tensor.data)]
    return tensor


def _encoder() -> list[Method]:
    prefix = "/reaas.v1.EncoderService/"
    seeds = (
        encoder_pb2.EncodeRequest(model=_MODEL, inputs=_images(1)),
        encoder_pb2.EncodeRequest(model=_MODEL, inputs=_images(3, 48)),
        encoder_pb2.EncodeRequest(
            model=_MODEL, inputs=_tensor(np.full((2, 32, 32, 3), 0.25, np.float32))
        ),
    )
    return [
        Method(prefix + "Encode", seeds),
        Method(prefix + "EncodeStream", seeds, streams=True),
        *_models(prefix),
    ]


def _f2i() -> list[Method]:
    prefix = "/reaas.v1.F2IService/"
    ball = f2i_pb2.BallTarget(radii=_tensor(np.full(2, CANARY_RADIUS)))
    margins = f2i_pb2.MarginTarget(
        normals=_tensor(np.full((2, 3, 128), 0.01)), offsets=_tensor(np.full((2, 3), CANARY_MARGIN))
    )
    seeds = []
    number: Any
    for number in f2i_pb2.Method.values():
        request = f2i_pb2.PerturbRequest(model=_MODEL, inputs=_images(2), method=number)
        request.search.max_steps = 2
        request.ball.CopyFrom(ball)
        seeds.append(request)
        sided = f2i_pb2.PerturbRequest(model=_MODEL, inputs=_images(2), method=number)
        sided.search.max_steps = 2
        sided.margins.CopyFrom(margins)
        seeds.append(sided)
    return [
        Method(prefix + "Perturb", tuple(seeds)),
        Method(prefix + "PerturbStream", tuple(seeds[:6]), streams=True),
        *_models(prefix),
    ]


def _pretrain() -> list[Method]:
    prefix = "/reaas.v1.PretrainService/"
    overrides = {"name": '"mine"', "encoder.channels": "[4, 4]", "spectral.weight": "0.5"}
    spec = pretrain_pb2.RunSpec(
        recipe="absent", overrides=overrides, dataset="set", source="digits", epochs=1, seed=1
    )
    known = pretrain_pb2.RunSpec(recipe="moco", dataset="absent", overrides=overrides, epochs=1)
    run_id = "20260101-000000-000000"
    return [
        Method(
            prefix + "CreateRun",
            (
                pretrain_pb2.CreateRunRequest(spec=spec, request_id="one"),
                pretrain_pb2.CreateRunRequest(spec=known, request_id="two"),
            ),
        ),
        Method(prefix + "GetRun", (pretrain_pb2.GetRunRequest(run_id=run_id),)),
        Method(prefix + "ListRuns", (pretrain_pb2.ListRunsRequest(page_size=3, page_token="x"),)),
        Method(
            prefix + "WatchRun",
            (pretrain_pb2.WatchRunRequest(run_id=run_id, after_epoch=1, log_offset=9),),
        ),
        Method(prefix + "CancelRun", (pretrain_pb2.CancelRunRequest(run_id=run_id),)),
        Method(
            prefix + "PublishRun", (pretrain_pb2.PublishRunRequest(run_id=run_id, version="1"),)
        ),
        Method(prefix + "ListRecipes", (pretrain_pb2.ListRecipesRequest(),)),
        Method(prefix + "GetInfo", (model_pb2.GetInfoRequest(),)),
    ]


def _models(prefix: str) -> list[Method]:
    return [
        Method(prefix + "ListModels", (model_pb2.ListModelsRequest(),)),
        Method(prefix + "GetInfo", (model_pb2.GetInfoRequest(),)),
    ]


def _open_to_all() -> list[Method]:
    reflected = reflection_pb2.ServerReflectionRequest(file_containing_symbol="reaas.v1.Tensor")
    named = health_pb2.HealthCheckRequest(service="reaas.v1.EncoderService")
    return [
        Method("/grpc.health.v1.Health/Check", (health_pb2.HealthCheckRequest(), named)),
        Method("/grpc.health.v1.Health/Watch", (named,)),
        Method(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            (reflected, reflection_pb2.ServerReflectionRequest(list_services="*")),
            streams=True,
        ),
        Method("/no.such.Service/Method", (model_pb2.GetInfoRequest(),)),
        Method("/nothing", (model_pb2.GetInfoRequest(),)),
    ]


_OWN = {"encoder": _encoder, "f2i": _f2i, "pretrain": _pretrain}


def metadata(rng: random.Random, keys: list[str]) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata of one call: mostly a key and plain words, sometimes neither."""
    found: list[tuple[str, str | bytes]] = []
    draw = rng.random()
    if draw < 0.85:
        found.append(("authorization", f"Bearer {rng.choice(keys)}"))
    elif draw < 0.9:
        found.append(("authorization", rng.choice(("", "Bearer", "Bearer x", "Basic eDp5", "x"))))
    if draw > 0.97:
        found.append(("authorization", f"Bearer {rng.choice(keys)}"))
    if rng.random() < 0.3:
        found.append(("x-reaas-scheme", rng.choice(("reaas", "seaas", "", "x" * 3000, "a, b"))))
    if rng.random() < 0.3:
        words = ("1", "0", "-1", "007", "0" * 50 + "7", "9" * 409, "1e3", "+1", "1_0")
        found.append(("x-reaas-draws", rng.choice(words)))
    if rng.random() < 0.2:
        found.append(("x-reaas-phase", rng.choice(("train", "test", "TEST", ""))))
    if rng.random() < 0.1:
        found.append(("x-noise-bin", rng.randbytes(rng.choice((0, 10, 3000)))))
    return tuple(found)
