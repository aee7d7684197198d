"""What every REaaS service shares: bootstrap, identity, metering, health, drain, models, inputs.

A service is a `Servicer` (mostly a `ModelServicer`: what to load, what to answer), its settings,
and one call of `run_service`. Errors raised on purpose are `DomainError`s; `status.py` alone gives
them codes.
"""

from reaas_runtime.call import Call, current_call
from reaas_runtime.errors import ConfigurationError, DomainError, Reason
from reaas_runtime.fair import Lane
from reaas_runtime.inputs import (
    as_array,
    as_tensor,
    check_inputs,
    check_length,
    decode_inputs,
    shape_of,
)
from reaas_runtime.loading import LoadLimits, load_given_up
from reaas_runtime.manifest import InputSpec, Manifest
from reaas_runtime.memory import available_memory
from reaas_runtime.metering import FRAME_BYTES, Cost, Meter
from reaas_runtime.preprocess import prepare_batch, resize_matrix
from reaas_runtime.process import run_service
from reaas_runtime.repository import ModelEntry, ModelRepository, Served, digest_of
from reaas_runtime.server import RunningServer, start_server
from reaas_runtime.servicer import ModelServicer, Servicer, answer_each, stage_timings, to_duration
from reaas_runtime.settings import ServerSettings, ServiceSettings
from reaas_runtime.supervision import Background, Lost
from reaas_runtime.work import Done, Effort, WorkerPool, stop_asked

__all__ = [
    "FRAME_BYTES",
    "Background",
    "Call",
    "ConfigurationError",
    "Cost",
    "DomainError",
    "Done",
    "Effort",
    "InputSpec",
    "Lane",
    "LoadLimits",
    "Lost",
    "Manifest",
    "Meter",
    "ModelEntry",
    "ModelRepository",
    "ModelServicer",
    "Reason",
    "RunningServer",
    "Served",
    "ServerSettings",
    "ServiceSettings",
    "Servicer",
    "WorkerPool",
    "answer_each",
    "as_array",
    "as_tensor",
    "available_memory",
    "check_inputs",
    "check_length",
    "current_call",
    "decode_inputs",
    "digest_of",
    "load_given_up",
    "prepare_batch",
    "resize_matrix",
    "run_service",
    "shape_of",
    "stage_timings",
    "start_server",
    "stop_asked",
    "to_duration",
]
