"""The pre-training service: runs behind gRPC, from a recipe to a published encoder."""

from reaas_pretrain.service.servicer import PretrainServicer
from reaas_pretrain.service.settings import PretrainSettings

__all__ = ["PretrainServicer", "PretrainSettings"]
