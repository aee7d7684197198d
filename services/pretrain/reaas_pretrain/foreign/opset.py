"""Older versions of ONNX' operators, converted where the engine doesn't read them as they are."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import version_converter
from reaas_bounds import BoundsError
from reaas_bounds.graph.lowering import traced

from reaas_pretrain.versions import PublishError

_OPSET, _IR_VERSION = 17, 8


def readable(file: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """The model, of opset 17 if it is older and the engine refuses it; what was done, in words."""
    stated = max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0)
    if not 0 < stated < _OPSET or _read(model):
        return model, []
    try:
        converted = version_converter.convert_version(model, _OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        why = (str(error).splitlines() or [""])[0]
        raise PublishError(
            f"{file} uses opset {stated}, and it can't be converted to {_OPSET} ({why}): export it"
            f" with opset {_OPSET} or later"
        ) from error
    converted.ir_version = max(model.ir_version, _IR_VERSION)
    if not _read(converted):
        return model, []  # The engine's words about the file itself are the clearer ones.
    return converted, [f"opset {stated}: converted to {_OPSET}"]


def _read(model: onnx.ModelProto) -> bool:
    try:
        traced(model.SerializeToString())
    except BoundsError:
        return False
    return True
