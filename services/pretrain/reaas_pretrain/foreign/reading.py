"""From a file, and what lies beside it, to one ONNX model with its weights inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from reaas_bounds.graph.onnx_file import MAX_MODEL_BYTES

from reaas_pretrain.versions import PublishError

_QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True, eq=False)
class Foreign:
    """A file: what it holds, its bytes, and the files beside it that held weights of it."""

    model: onnx.ModelProto
    onnx_bytes: bytes
    beside: tuple[str, ...]


def read_model(file: Path) -> Foreign:
    """The file with all of its weights; `PublishError` if there is no such ONNX file."""
    try:
        data = file.read_bytes()
        model = onnx.load_model_from_string(data)
        beside = _external_files(model)
        if beside:
            _check_size(file, [file, *(file.parent / name for name in beside)])
            onnx.load_external_data_for_model(model, str(file.parent))
    except OSError as error:
        raise PublishError(f"{file} can't be read: {error.strerror or error}") from error
    except DecodeError as error:
        raise PublishError(f"{file} is no ONNX file") from error
    except (onnx.checker.ValidationError, ValueError) as error:
        raise PublishError(
            f"{file}: its weights can't be read from beside it ({str(error).splitlines()[0]}):"
            " copy all files that the exporter wrote into one directory"
        ) from error
    if not model.graph.node or not model.graph.output:
        raise PublishError(f"{file} is no ONNX file, or its graph is empty")
    _refuse_quantised(file, model)
    return Foreign(model, data, tuple(beside))


def _external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside an ONNX file that hold weights of it."""
    found = {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return sorted(found)


def _tensors(model: onnx.ModelProto) -> Iterable[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _check_size(file: Path, parts: list[Path]) -> None:
    for part in parts:
        if not part.is_file():
            raise PublishError(
                f"{file}: its weights lie in {part.name}, which isn't beside it: copy both files"
                " into one directory"
            )
    size = sum(part.stat().st_size for part in parts)
    if size > MAX_MODEL_BYTES:
        raise PublishError(f"{file} has {size} bytes with its weights, limit {MAX_MODEL_BYTES}")


def _refuse_quantised(file: Path, model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type in _QUANTISED or node.op_type.startswith("QLinear"):
            raise PublishError(
                f"{file} is quantised (node {node.name or node.output[0]!r} is {node.op_type}):"
                " steps have no certified bound; export the float32 model, before quantisation"
            )
