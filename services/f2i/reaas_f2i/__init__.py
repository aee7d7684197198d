"""The F2I service (F2IPerturb-API): image-space certified radii behind gRPC."""

from reaas_f2i.certifier import Certifier, Question
from reaas_f2i.servicer import F2IServicer
from reaas_f2i.settings import F2ISettings

__all__ = ["Certifier", "F2IServicer", "F2ISettings", "Question"]
