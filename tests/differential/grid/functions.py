"""Activations with every parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, Case, File, floats
from tests.differential.space import described, draws, mostly

SHAPES = ((3, 4, 4), (2, 5, 1))
NUMBERS = mostly([ABSENT, 0.1, 0.0, -0.3, 1.0, 2.5], [float("nan"), float("inf"), -1e30])
PLAIN = (
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "HardSigmoid",
    "HardSwish",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "Softsign",
    "Mish",
    "ThresholdedRelu",
    "Gelu",
    "Swish",
    "Abs",
    "Shrink",
    "Erf",
    "Softmax",
    "LogSoftmax",
    "Hardmax",
)
PARAMETERS = ("alpha", "beta", "gamma", "approximate", "axis", "lambd", "bias")


def activations() -> Iterator[Case]:
    """Activations of planes and of vectors, with parameters of any value, known or not."""
    chosen = draws(
        "activations",
        900,
        kind=PLAIN,
        shape=SHAPES,
        first=PARAMETERS,
        second=PARAMETERS,
        one=NUMBERS,
        two=NUMBERS,
        flat=(False, True),
        outputs=mostly([1], [2]),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        given: dict[str, Any] = {}
        for name, value in ((draw["first"], draw["one"]), (draw["second"], draw["two"])):
            if value is not ABSENT and (
                name in _KNOWN.get(draw["kind"], ()) or draw["seed"] % 11 == 0
            ):
                given[name] = _value(name, value)
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        kept = {key: draw[key] for key in ("kind", "opset", "flat", "outputs", "seed")}
        name = described({**kept, **given})
        yield Case(
            "activations",
            name,
            file.finish(file.add(draw["kind"], source, outputs=draw["outputs"], **given)),
        )


def plain_activations() -> Iterator[Case]:
    """Every activation of every opset as exporters write it."""
    for draw in draws("plain activations", 1000, kind=PLAIN, flat=(False, True)):
        file = File((2, 3, 4), draw["opset"], draw["seed"])
        source = file.add("Mul", file.add("Flatten", "x") if draw["flat"] else "x", floats(3))
        yield Case(
            "plain activations", described(draw), file.finish(file.add(draw["kind"], source))
        )


def clips() -> Iterator[Case]:
    """``Clip`` by attributes and inputs: no limit, infinite, crossed, of odd types, shapes."""
    odd = [
        0.0,
        float("inf"),
        float("-inf"),
        float("nan"),
        "int",
        "double",
        "vector",
        "empty",
        "computed",
    ]
    low, high = mostly([ABSENT, 0.0, -0.5, 0.3], odd), mostly([ABSENT, 0.3, 0.6, 6.0], odd)
    chosen = draws("Clip", 500, shape=SHAPES, low=low, high=high, by_node=(False, True))
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"], by_node=draw["by_node"])
        if file.by_input("Clip", "min"):
            inputs = [_limit(file, draw[key]) for key in ("low", "high")]
            made = file.add("Clip", "x", *inputs)
        else:
            given: dict[str, Any] = {
                name: draw[key] if isinstance(draw[key], float) else ABSENT
                for key, name in (("low", "min"), ("high", "max"))
            }
            made = file.add("Clip", "x", **given)
        yield Case("Clip", described(draw), file.finish(made))


def slopes() -> Iterator[Case]:
    """``PRelu`` with slopes of any shape: for each channel, pixel, image; more than there are."""
    sizes = mostly(
        [(), (1,), (3, 1, 1), (1, 3, 1, 1), (48,), (1, 48)],
        [
            (3,),
            (5, 3, 1, 1),
            (3, 4, 4),
            (4,),
            (4, 4),
            (1, 1, 4),
            (2, 1, 1),
            (3, 1),
            (0,),
            (1, 1, 1, 1, 1),
            (3, 3, 1, 1),
        ],
    )
    values = ("normal", "normal", "zero", "one", "nan", "big")
    for draw in draws(
        "PRelu", 300, size=sizes, value=values, flat=(False, True), computed=mostly([False], [True])
    ):
        file = File((3, 4, 4), draw["opset"], draw["seed"])
        chosen = {"zero": 0.0, "one": 1.0, "nan": np.nan, "big": 1e20}
        normal = file.weights(*draw["size"]) if draw["size"] else np.float32(0.3)
        slope: Any = (
            normal
            if draw["value"] == "normal"
            else np.full(draw["size"], chosen[draw["value"]], np.float32)
        )
        slope = file.add("Relu", "x") if draw["computed"] else slope
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        yield Case("PRelu", described(draw), file.finish(file.add("PRelu", source, slope)))


_KNOWN = {
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "Celu": ("alpha",),
    "Selu": ("alpha", "gamma"),
    "HardSigmoid": ("alpha", "beta"),
    "ThresholdedRelu": ("alpha",),
    "Swish": ("alpha",),
    "Gelu": ("approximate",),
    "Shrink": ("lambd", "bias"),
    "Softmax": ("axis",),
    "LogSoftmax": ("axis",),
    "Hardmax": ("axis",),
}


def _value(name: str, value: float) -> Any:
    if name == "approximate":
        return {0.1: "tanh", 0.0: "none"}.get(value, "erf")
    return int(np.clip(np.nan_to_num(value), -9, 9)) if name == "axis" else value


def _limit(file: File, limit: Any) -> Any:
    odd = {
        "int": np.array(1, np.int64),
        "double": np.array(0.5, np.float64),
        "vector": floats(0.1, 0.2),
        "empty": floats(),
    }
    if limit is ABSENT:
        return None
    if limit == "computed":
        return file.add("ReduceMax", "x", keepdims=0)
    return odd.get(limit) if isinstance(limit, str) else np.float32(limit)


FUNCTIONS = {
    "activations": activations,
    "plain activations": plain_activations,
    "Clip": clips,
    "PRelu": slopes,
}
