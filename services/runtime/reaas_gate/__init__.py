"""What is certified is what is served: one encoder in ONNX Runtime and in the engine, compared.

    check_served(onnx_bytes, load_network(onnx_bytes))

A certificate speaks of the engine's network; clients get features from ONNX Runtime. Wherever a
file is taken in (adopted, exported, certified anew, loaded) both compute the features of the same
images, and a file of which they disagree is refused. See docs/decisions/0013.
"""

from reaas_gate.gate import Checked, ServedOtherwiseError, check_served
from reaas_gate.original import check_same_as
from reaas_gate.record import probe_record

__all__ = ["Checked", "ServedOtherwiseError", "check_same_as", "check_served", "probe_record"]
