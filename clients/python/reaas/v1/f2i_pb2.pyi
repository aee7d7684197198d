from reaas.v1 import model_pb2 as _model_pb2
from reaas.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METHOD_UNSPECIFIED: _ClassVar[Method]
    METHOD_AUTO: _ClassVar[Method]
    METHOD_LIPSCHITZ: _ClassVar[Method]
    METHOD_CROWN: _ClassVar[Method]
    METHOD_IBP: _ClassVar[Method]
    METHOD_ENVELOPE: _ClassVar[Method]
    METHOD_LOCAL: _ClassVar[Method]
    METHOD_CROWN_JOINT: _ClassVar[Method]
METHOD_UNSPECIFIED: Method
METHOD_AUTO: Method
METHOD_LIPSCHITZ: Method
METHOD_CROWN: Method
METHOD_IBP: Method
METHOD_ENVELOPE: Method
METHOD_LOCAL: Method
METHOD_CROWN_JOINT: Method

class BallTarget(_message.Message):
    __slots__ = ("radii",)
    RADII_FIELD_NUMBER: _ClassVar[int]
    radii: _tensor_pb2.Tensor
    def __init__(self, radii: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class MarginTarget(_message.Message):
    __slots__ = ("normals", "offsets", "valid_within")
    NORMALS_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    VALID_WITHIN_FIELD_NUMBER: _ClassVar[int]
    normals: _tensor_pb2.Tensor
    offsets: _tensor_pb2.Tensor
    valid_within: _tensor_pb2.Tensor
    def __init__(self, normals: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., offsets: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., valid_within: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class Perturbation(_message.Message):
    __slots__ = ("l2",)
    class L2(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    L2_FIELD_NUMBER: _ClassVar[int]
    l2: Perturbation.L2
    def __init__(self, l2: _Optional[_Union[Perturbation.L2, _Mapping]] = ...) -> None: ...

class SearchOptions(_message.Message):
    __slots__ = ("max_steps", "relative_tolerance")
    MAX_STEPS_FIELD_NUMBER: _ClassVar[int]
    RELATIVE_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    max_steps: int
    relative_tolerance: float
    def __init__(self, max_steps: _Optional[int] = ..., relative_tolerance: _Optional[float] = ...) -> None: ...

class PerturbRequest(_message.Message):
    __slots__ = ("model", "inputs", "ball", "margins", "method", "perturbation", "search")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    BALL_FIELD_NUMBER: _ClassVar[int]
    MARGINS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PERTURBATION_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    inputs: _tensor_pb2.Tensor
    ball: BallTarget
    margins: MarginTarget
    method: Method
    perturbation: Perturbation
    search: SearchOptions
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., inputs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., ball: _Optional[_Union[BallTarget, _Mapping]] = ..., margins: _Optional[_Union[MarginTarget, _Mapping]] = ..., method: _Optional[_Union[Method, str]] = ..., perturbation: _Optional[_Union[Perturbation, _Mapping]] = ..., search: _Optional[_Union[SearchOptions, _Mapping]] = ...) -> None: ...

class PerturbResult(_message.Message):
    __slots__ = ("radius", "method", "upper", "steps", "converged", "margin_set", "limited_by_ball")
    RADIUS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    UPPER_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    CONVERGED_FIELD_NUMBER: _ClassVar[int]
    MARGIN_SET_FIELD_NUMBER: _ClassVar[int]
    LIMITED_BY_BALL_FIELD_NUMBER: _ClassVar[int]
    radius: float
    method: Method
    upper: float
    steps: int
    converged: bool
    margin_set: int
    limited_by_ball: bool
    def __init__(self, radius: _Optional[float] = ..., method: _Optional[_Union[Method, str]] = ..., upper: _Optional[float] = ..., steps: _Optional[int] = ..., converged: _Optional[bool] = ..., margin_set: _Optional[int] = ..., limited_by_ball: _Optional[bool] = ...) -> None: ...

class PerturbResponse(_message.Message):
    __slots__ = ("model", "results", "timings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    results: _containers.RepeatedCompositeFieldContainer[PerturbResult]
    timings: _model_pb2.StageTimings
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., results: _Optional[_Iterable[_Union[PerturbResult, _Mapping]]] = ..., timings: _Optional[_Union[_model_pb2.StageTimings, _Mapping]] = ...) -> None: ...
