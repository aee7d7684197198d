"""ONNX encoders as other people's exporters write them, made into `input [N, C, H, W]` in [0, 1] ->
`feature [N, d]`, or refused with what to do about it.

    rewrite(Path("resnet18.onnx"), Wishes(output="/avgpool/GlobalAveragePool_output_0"))
"""

from reaas_pretrain.foreign.rewriting import Rewritten, rewrite
from reaas_pretrain.foreign.wishes import Wishes

__all__ = ["Rewritten", "Wishes", "rewrite"]
