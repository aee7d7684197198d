from reaas.v1 import model_pb2 as _model_pb2
from reaas.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EncodeRequest(_message.Message):
    __slots__ = ("model", "inputs")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    inputs: _tensor_pb2.Tensor
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., inputs: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("model", "features", "timings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.ModelRef
    features: _tensor_pb2.Tensor
    timings: _model_pb2.StageTimings
    def __init__(self, model: _Optional[_Union[_model_pb2.ModelRef, _Mapping]] = ..., features: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., timings: _Optional[_Union[_model_pb2.StageTimings, _Mapping]] = ...) -> None: ...
