"""Replies of ListModels and GetInfo as the dataclasses of this package."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from reaas._errors import ModelNotFoundError, ProtocolError
from reaas._model import (
    CertifiedConstants,
    InputSpec,
    Limits,
    ModelInfo,
    ModelRef,
    ResizeSpec,
    ServiceInfo,
)
from reaas._tensor import dtype_name
from reaas.v1 import model_pb2


def read_model_info(message: model_pb2.ModelInfo) -> ModelInfo:
    """What a service says about one model."""
    constants = message.constants
    return ModelInfo(
        ref=ModelRef(message.model.name, message.model.version, message.model.digest),
        description=message.description,
        input=_read_input(message.input),
        feature_dim=message.feature_dim,
        constants=CertifiedConstants(
            lipschitz=constants.lipschitz,
            method=constants.method,
            relative_rounding=constants.relative_rounding,
            float32_error_slope=constants.float32_error_slope,
            float32_error_offset=constants.float32_error_offset,
        ),
        latest=message.latest,
        manifest=_read_manifest(message),
    )


def _read_input(message: model_pb2.InputSpec) -> InputSpec:
    resize = message.resize
    return InputSpec(
        kind=message.kind,
        shape=tuple(message.shape),
        dtypes=tuple(dtype_name(dtype) for dtype in message.dtypes),
        value_range=(message.value_range.min, message.value_range.max),
        accepted_range=(message.accepted_range.min, message.accepted_range.max),
        resize=ResizeSpec(resize.method, tuple(resize.min_size), tuple(resize.max_size))
        if message.HasField("resize")
        else None,
        grey=message.grey,
    )


def _read_manifest(message: model_pb2.ModelInfo) -> dict[str, Any]:
    try:
        manifest = json.loads(message.manifest_json or "{}")
    except ValueError as error:
        raise ProtocolError(f"reply: the manifest of {message.model.name} is not JSON") from error
    if not isinstance(manifest, dict):
        raise ProtocolError(f"reply: the manifest of {message.model.name} is not a JSON object")
    return manifest


def read_service_info(message: model_pb2.GetInfoResponse) -> ServiceInfo:
    """What a service says about itself."""
    limits = message.limits
    return ServiceInfo(
        release=message.release,
        service=message.service,
        limits=Limits(
            max_batch_inputs=limits.max_batch_inputs,
            max_request_bytes=limits.max_request_bytes,
            max_response_bytes=limits.max_response_bytes,
            max_pending_inputs=limits.max_pending_inputs,
            max_search_steps=limits.max_search_steps,
            default_deadline_s=limits.default_deadline.ToTimedelta().total_seconds(),
            max_margin_rows=limits.max_margin_rows,
            max_margin_sets=limits.max_margin_sets,
        ),
        backends=tuple(message.backends),
        client_id=message.client_id,
    )


def find_model(models: Iterable[ModelInfo], wanted: ModelRef) -> ModelInfo:
    """The model that `wanted` names; without a version and a digest, the latest.

    Raises ModelNotFoundError.
    """
    exact = bool(wanted.version or wanted.digest)
    for info in models:
        if wanted.admits(info.ref) and (exact or info.latest):
            return info
    raise ModelNotFoundError(f"the service has no model {wanted}", field="model", got=str(wanted))
