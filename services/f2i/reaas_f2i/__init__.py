"""The F2I service (F2IPerturb-API): image-space certified radii behind gRPC."""

from reaas_f2i.certifier import Certifier
from reaas_f2i.servicer import F2IServicer
from reaas_f2i.settings import F2ISettings
from reaas_f2i.targets import Ball, Margins, Question

__all__ = ["Ball", "Certifier", "F2IServicer", "F2ISettings", "Margins", "Question"]
