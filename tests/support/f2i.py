"""A real F2I service on a loopback port, requests to it, and manifests that it accepts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from reaas.v1 import f2i_pb2, model_pb2, tensor_pb2
from reaas.v1.f2i_pb2_grpc import add_F2IServiceServicer_to_server
from reaas_bounds import certified_constants
from reaas_f2i import F2IServicer, F2ISettings
from reaas_pretrain.manifest import certified_section
from reaas_runtime import RunningServer

from tests.support.servers import defaults, running

_DTYPES = {
    "uint8": tensor_pb2.DATA_TYPE_UINT8,
    "float32": tensor_pb2.DATA_TYPE_FLOAT32,
    "float64": tensor_pb2.DATA_TYPE_FLOAT64,
}


@asynccontextmanager
async def f2i_server(models_dir: Path, **settings: Any) -> AsyncIterator[RunningServer[Any]]:
    """An F2I service in this process, ready, on ports of its own; anonymous by default."""
    chosen = F2ISettings(**defaults(models_dir) | settings)
    async with running(chosen, F2IServicer, add_F2IServiceServicer_to_server) as server:
        yield server


def certified(onnx: bytes) -> dict[str, Any]:
    """The manifest's honest `certified`, which the service recomputes."""
    return certified_section(certified_constants(onnx))


def tensor(array: NDArray[Any]) -> tensor_pb2.Tensor:
    """Any array as it travels."""
    little = array.astype(array.dtype.newbyteorder("<"))
    return tensor_pb2.Tensor(
        dtype=_DTYPES[array.dtype.name], shape=array.shape, data=little.tobytes()
    )


def perturb_request(
    images: NDArray[Any], radii: ArrayLike, **fields: Any
) -> f2i_pb2.PerturbRequest:
    """A well-formed request to the model "tiny"; `fields` replace its fields."""
    standard: dict[str, Any] = {
        "model": model_pb2.ModelRef(name="tiny"),
        "inputs": tensor(images),
        "ball": f2i_pb2.BallTarget(radii=tensor(np.asarray(radii, np.float64))),
        "method": f2i_pb2.METHOD_AUTO,
    }
    return f2i_pb2.PerturbRequest(**standard | fields)
