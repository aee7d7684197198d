import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from reaas.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelRef(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ...) -> None: ...

class ValueRange(_message.Message):
    __slots__ = ("min", "max")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    min: float
    max: float
    def __init__(self, min: _Optional[float] = ..., max: _Optional[float] = ...) -> None: ...

class ResizeSpec(_message.Message):
    __slots__ = ("method", "min_size", "max_size")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    MIN_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_SIZE_FIELD_NUMBER: _ClassVar[int]
    method: str
    min_size: _containers.RepeatedScalarFieldContainer[int]
    max_size: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, method: _Optional[str] = ..., min_size: _Optional[_Iterable[int]] = ..., max_size: _Optional[_Iterable[int]] = ...) -> None: ...

class InputSpec(_message.Message):
    __slots__ = ("kind", "shape", "dtypes", "value_range", "accepted_range", "resize", "grey")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPES_FIELD_NUMBER: _ClassVar[int]
    VALUE_RANGE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_RANGE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    GREY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    dtypes: _containers.RepeatedScalarFieldContainer[_tensor_pb2.DataType]
    value_range: ValueRange
    accepted_range: ValueRange
    resize: ResizeSpec
    grey: bool
    def __init__(self, kind: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., dtypes: _Optional[_Iterable[_Union[_tensor_pb2.DataType, str]]] = ..., value_range: _Optional[_Union[ValueRange, _Mapping]] = ..., accepted_range: _Optional[_Union[ValueRange, _Mapping]] = ..., resize: _Optional[_Union[ResizeSpec, _Mapping]] = ..., grey: _Optional[bool] = ...) -> None: ...

class CertifiedConstants(_message.Message):
    __slots__ = ("lipschitz", "method", "relative_rounding", "float32_error_slope", "float32_error_offset")
    LIPSCHITZ_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_ROUNDING_FIELD_NUMBER: _ClassVar[int]
    FLOAT32_ERROR_SLOPE_FIELD_NUMBER: _ClassVar[int]
    FLOAT32_ERROR_OFFSET_FIELD_NUMBER: _ClassVar[int]
    lipschitz: float
    method: str
    relative_rounding: float
    float32_error_slope: float
    float32_error_offset: float
    def __init__(self, lipschitz: _Optional[float] = ..., method: _Optional[str] = ..., relative_rounding: _Optional[float] = ..., float32_error_slope: _Optional[float] = ..., float32_error_offset: _Optional[float] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("model", "description", "input", "feature_dim", "constants", "latest", "manifest_json")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_DIM_FIELD_NUMBER: _ClassVar[int]
    CONSTANTS_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    model: ModelRef
    description: str
    input: InputSpec
    feature_dim: int
    constants: CertifiedConstants
    latest: bool
    manifest_json: str
    def __init__(self, model: _Optional[_Union[ModelRef, _Mapping]] = ..., description: _Optional[str] = ..., input: _Optional[_Union[InputSpec, _Mapping]] = ..., feature_dim: _Optional[int] = ..., constants: _Optional[_Union[CertifiedConstants, _Mapping]] = ..., latest: _Optional[bool] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("max_batch_inputs", "max_request_bytes", "max_response_bytes", "max_pending_inputs", "max_search_steps", "default_deadline", "max_margin_rows", "max_margin_sets")
    MAX_BATCH_INPUTS_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_INPUTS_FIELD_NUMBER: _ClassVar[int]
    MAX_SEARCH_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    MAX_MARGIN_ROWS_FIELD_NUMBER: _ClassVar[int]
    MAX_MARGIN_SETS_FIELD_NUMBER: _ClassVar[int]
    max_batch_inputs: int
    max_request_bytes: int
    max_response_bytes: int
    max_pending_inputs: int
    max_search_steps: int
    default_deadline: _duration_pb2.Duration
    max_margin_rows: int
    max_margin_sets: int
    def __init__(self, max_batch_inputs: _Optional[int] = ..., max_request_bytes: _Optional[int] = ..., max_response_bytes: _Optional[int] = ..., max_pending_inputs: _Optional[int] = ..., max_search_steps: _Optional[int] = ..., default_deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_margin_rows: _Optional[int] = ..., max_margin_sets: _Optional[int] = ...) -> None: ...

class StageTimings(_message.Message):
    __slots__ = ("queue", "preprocess", "compute")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    queue: _duration_pb2.Duration
    preprocess: _duration_pb2.Duration
    compute: _duration_pb2.Duration
    def __init__(self, queue: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., preprocess: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., compute: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class GetInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetInfoResponse(_message.Message):
    __slots__ = ("release", "service", "limits", "backends", "client_id")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    release: str
    service: str
    limits: Limits
    backends: _containers.RepeatedScalarFieldContainer[str]
    client_id: str
    def __init__(self, release: _Optional[str] = ..., service: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., backends: _Optional[_Iterable[str]] = ..., client_id: _Optional[str] = ...) -> None: ...
