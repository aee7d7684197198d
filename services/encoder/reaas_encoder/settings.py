"""Settings of the encoder service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from pydantic_settings import SettingsConfigDict
from reaas_runtime import ServiceSettings

from reaas_encoder.session import Device


class EncoderSettings(ServiceSettings):
    """REaaS Feature-API: feature vectors of inputs, from ONNX encoders."""

    model_config = SettingsConfigDict(cli_prog_name="reaas-encoder")

    device: Device = "auto"
    """auto: CUDA where ONNX Runtime offers it, else CPU; cuda: refuse to start without it."""
    batch_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (1, 2, 4, 8, 16, 32)
    """Batch sizes that the encoder is run at: few, so that each is probed and warm before use and
    memory stays flat. Beyond 32 small convolutional encoders get no faster on a CPU core."""
