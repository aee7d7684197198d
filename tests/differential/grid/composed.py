"""Functions that files write with several operators: GELU, gates, paddings put together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import numpy_helper

from tests.differential.file import Case, File, floats, integers
from tests.differential.space import Draw, described, draws, mostly


def gelus() -> Iterator[Case]:
    """GELU by Erf, and by Tanh with Pow or products; and what only looks like one."""
    chosen = draws(
        "written GELU",
        500,
        way=("erf", "erf by product", "tanh", "tanh by pow"),
        half=mostly([0.5], [0.51, -0.5]),
        one=mostly([1.0], [0.9, 2.0]),
        scale=mostly([1.0], [1.001]),
        power=mostly([3.0], [2.0]),
        half_first=(False, True),
        flat=(False, True),
    )
    for draw in chosen:
        file = File((2, 3, 4), draw["opset"], draw["seed"])
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        source = file.add("Mul", source, floats(2))
        inner = _inner(file, source, draw["way"], draw["scale"], draw["power"])
        plus = file.add("Add", inner, floats(draw["one"]))
        if draw["half_first"]:
            made = file.add("Mul", file.add("Mul", source, floats(draw["half"])), plus)
        else:
            made = file.add("Mul", file.add("Mul", source, plus), floats(draw["half"]))
        yield Case("written GELU", described(draw), file.finish(made))


def _inner(file: File, source: str, way: str, scale: float, power: float) -> str:
    root = np.float32(scale * np.sqrt(2.0))
    if way == "erf":
        return file.add("Erf", file.add("Div", source, root))
    if way == "erf by product":
        return file.add("Erf", file.add("Mul", source, np.float32(1 / root)))
    if way == "tanh by pow":
        cube = file.add("Pow", source, np.float32(power))
    else:
        cube = file.add("Mul", file.add("Mul", source, source), source)
    total = file.add("Add", source, file.add("Mul", cube, np.float32(0.044715)))
    factor = np.float32(scale * np.sqrt(2 / np.pi))
    return file.add("Tanh", file.add("Mul", total, factor))


def gates() -> Iterator[Case]:
    """``x`` times a gate of ``x`` (SiLU, HardSwish, Mish), and what only looks like one."""
    chosen = draws(
        "gates",
        900,
        way=("silu", "scaled silu", "hard swish", "sixth", "mish", "softplus", "softsign", "paths"),
        number=mostly([1.0, 3.0, 6.0, 20.0], [0.5, -1.0, 1e20, 0.0, 17.0]),
        alpha=mostly([1 / 6, 0.2], [0.5, -0.1]),
        twisted=mostly([False], [True]),
        gate_first=(False, True),
        flat=(False, True),
    )
    for draw in chosen:
        file = File((2, 3, 4), draw["opset"], draw["seed"])
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        source = file.add("Mul", source, floats(4))
        other = file.add("Neg", source) if draw["twisted"] else source
        yield Case("gates", described(draw), file.finish(_gated(file, source, other, draw)))


def _gated(file: File, source: str, other: str, draw: Draw) -> str:
    number = floats(draw["number"])
    match draw["way"]:
        case "silu":
            gate = file.add("Sigmoid", other)
        case "scaled silu":
            gate = file.add("Sigmoid", file.add("Mul", other, number))
        case "hard swish":
            gate = file.add("HardSigmoid", other, alpha=draw["alpha"], beta=0.5)
        case "sixth":
            shifted = file.add("Add", other, floats(3))
            if file.opset < 11:
                cut = file.add("Clip", shifted, min=0.0, max=draw["number"])
            else:
                cut = file.add("Clip", shifted, np.float32(0), np.float32(draw["number"]))
            gate = file.add("Div", cut, floats(6))
        case "mish":
            gate = file.add("Tanh", file.add("Softplus", other))
        case "softplus":
            above = file.add("Greater", other, number)
            return file.add("Where", above, source, file.add("Softplus", source))
        case "softsign":
            return file.add("Div", source, file.add("Add", file.add("Abs", other), number))
        case _:
            gate = file.add("Relu", file.add("Sub", other, number))
    return file.add("Mul", *((gate, source) if draw["gate_first"] else (source, gate)))


def fills() -> Iterator[Case]:
    """A padding of which most is filled with one number."""
    chosen = draws("filled", 120, opset=range(9, 26), number=(0, 1, 2), count=mostly([4], [0, 8]))
    for draw in chosen:
        file = File((2, 4, 4), draw["opset"], draw["seed"])
        fill = numpy_helper.from_array(integers(draw["number"]))
        rest = file.add("ConstantOfShape", integers(draw["count"]), value=fill)
        pads = file.add("Concat", integers(0, 0, 1, 1), rest, axis=0)
        if draw["count"] == 4 and draw["number"]:
            pads = file.add("Mul", pads, integers(0, 0, 1, 1, 0, 0, 1, 1))
        if draw["opset"] >= 11:
            made = file.add("Pad", "x", pads)
        else:
            axes = file.add("Slice", pads, integers(0), integers(3)) if draw["opset"] > 9 else pads
            made = file.add("Reshape", "x", file.add("Concat", integers(0, -1), axes, axis=0))
        yield Case("filled", described(draw), file.finish(made))


COMPOSED = {"written GELU": gelus, "gates": gates, "filled": fills}
