"""Weights from 1e-30 to 1e30: what float32 makes of numbers near both of its ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.differential.file import Case, File, floats
from tests.differential.space import described, draws

SIZES = (1e-38, 1e-30, 1e-22, 1e-14, 1e-7, 1.0, 1e7, 1e14, 1e22, 1e30)


def chains() -> Iterator[Case]:
    """Two or three layers whose weights have far apart sizes."""
    for draw in draws(
        "scales",
        500,
        first=SIZES,
        second=SIZES,
        third=SIZES,
        kind=("Mul", "Conv", "Gemm", "norm"),
        between=("", "Relu", "Tanh"),
        opset=(13, 17, 21),
    ):
        file = File((2, 4, 4), draw["opset"], draw["seed"])
        value = "x"
        for size in (draw["first"], draw["second"], draw["third"]):
            value = _scaled(file, value, draw["kind"], size)
            value = file.add(draw["between"], value) if draw["between"] else value
        yield Case("scales", described(draw), file.finish(value))


def single() -> Iterator[Case]:
    """One operator of one size after another, down and up again."""
    for draw in draws(
        "one scale",
        400,
        size=SIZES,
        back=(True, False),
        shift=(0.0, 1e-30, 1.0, 1e30),
        kind=("Conv", "Gemm", "norm", "AveragePool", "Resize", "Div", "GlobalAveragePool", "Sum"),
        opset=(13, 17, 21),
    ):
        file, size = File((2, 4, 4), draw["opset"], draw["seed"]), draw["size"]
        value = file.add("Mul", "x", floats(size)) if draw["back"] else "x"
        value = _scaled(file, value, draw["kind"], size)
        value = file.add("Add", value, floats(draw["shift"])) if draw["shift"] else value
        back = np.float32(1 / size)
        yield Case(
            "one scale",
            described(draw),
            file.finish(
                file.add("Mul", value, back) if draw["back"] and np.isfinite(back) else value
            ),
        )


def _scaled(file: File, value: str, kind: str, size: float) -> str:
    match kind:
        case "Conv":
            return file.add("Conv", value, file.weights(2, 2, 3, 3, size=size), pads=[1] * 4)
        case "Gemm":
            return file.add(
                "Gemm", file.add("Flatten", value), file.weights(32, 32, size=size), transB=1
            )
        case "norm":
            mean, variance = (
                file.weights(2, size=min(size, 1e10)),
                np.full(2, min(size, 1e30), np.float32),
            )
            return file.add(
                "BatchNormalization",
                value,
                file.weights(2),
                file.weights(2),
                mean,
                variance,
                epsilon=1e-30,
            )
        case "AveragePool":
            return file.add("AveragePool", value, kernel_shape=[2, 2])
        case "GlobalAveragePool":
            return file.add(kind, value)
        case "Resize":
            return file.add("Resize", value, None, floats(1, 1, 1.5, 0.75), mode="linear")
        case "Div":
            return file.add("Div", value, floats(size))
        case "Sum":
            return file.add("Add", value, file.add("Neg", file.add("Mul", value, floats(0.999999))))
        case _:
            return file.add("Mul", value, file.weights(2, 1, 1, size=size))


SCALES = {"scales": chains, "one scale": single}
