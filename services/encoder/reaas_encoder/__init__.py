"""The encoder service (Feature-API): ONNX encoders behind gRPC."""

from reaas_encoder.servicer import EncoderServicer
from reaas_encoder.session import EncoderSession
from reaas_encoder.settings import EncoderSettings

__all__ = ["EncoderServicer", "EncoderSession", "EncoderSettings"]
