"""Files that break one rule of the format each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from tests.differential.contents import CONTENTS
from tests.differential.file import Case, File, floats
from tests.differential.space import some
from tests.differential.structure import STRUCTURE


def right(opset: int = 17) -> onnx.ModelProto:
    """Conv, Relu, Flatten, Gemm: a file that is right."""
    file = File((2, 4, 4), opset)
    value = file.add("Conv", "x", file.weights(3, 2, 3, 3), file.weights(3), kernel_shape=[3, 3])
    value = file.add("Flatten", file.add("Relu", value))
    return onnx.load_model_from_string(
        file.finish(
            file.add("Gemm", value, file.weights(5, 12), file.weights(5), transB=1), flat=False
        )
    )


def hostile() -> Iterator[Case]:
    """The right file with each of the changes, and whole networks that depend on nothing."""
    yield Case("hostile", "nothing changed", bytes(right().SerializeToString()))
    for name, change in some(list((STRUCTURE | CONTENTS).items())):
        model = right()
        change(model)
        yield Case("hostile", name, bytes(model.SerializeToString()))
    for name, value in {"zero": 0.0, "denormal": 1e-45, "largest": 3.4e38}.items():
        for kind in ("Mul", "Gemm", "Conv", "BatchNormalization"):
            yield Case("hostile", f"{kind} by {name} weights", _constant(kind, value))


def _constant(kind: str, value: float) -> bytes:
    file = File((2, 4, 4))
    match kind:
        case "Gemm":
            made = file.add(
                "Gemm",
                file.add("Flatten", "x"),
                np.full((5, 32), value, np.float32),
                file.weights(5),
                transB=1,
            )
        case "Conv":
            made = file.add("Conv", "x", np.full((2, 2, 3, 3), value, np.float32), file.weights(2))
        case "BatchNormalization":
            made = file.add(
                kind, "x", floats(value, value), file.weights(2), file.weights(2), floats(1, 1)
            )
        case _:
            made = file.add("Mul", "x", floats(value))
    return file.finish(made)


HOSTILE = {"hostile": hostile}
