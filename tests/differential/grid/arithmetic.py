"""Arithmetic of activations and constants, entry by entry; matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, Case, File, floats
from tests.differential.space import described, draws, mostly

SHAPES = ((3, 4, 4), (1, 4, 5), (4, 1, 1))
KINDS = mostly(
    ["Add", "Sub", "Mul", "Div", "PRelu"], ["Max", "Min", "Pow", "Mod", "Sum", "Mean", "Equal"]
)
PAIRS = mostly(["Add", "Max", "Min"], ["Sub", "Mul", "Div", "Pow", "PRelu", "Sum", "Mean"])
# Shapes of a constant beside an activation [N, C, H, W]: those that fit, and those that do not.
BESIDE = mostly(
    [
        (),
        (1,),
        (1, 1, 1),
        (-3, 1, 1),
        (1, -3, 1, 1),
        (-3, -2, -1),
        (-1,),
        (-2, -1),
        (-2, 1),
        (1, -3, -2, -1),
    ],
    [(2, 1, 1, 1), (1, 1, 1, 1, 1), (3, -3, -2, -1), (7,), (0,), (-3,), (5, -3, 1, 1)],
)


def with_constants() -> Iterator[Case]:
    """An activation and a constant of any shape, in both orders."""
    values = mostly(["normal", "zero", "-0", "positive"], ["tiny", "huge", "inf", "nan", "double"])
    chosen = draws(
        "arithmetic",
        800,
        kind=KINDS,
        shape=SHAPES,
        beside=BESIDE,
        first=(False, True),
        by_node=(False, True),
        value=values,
        axis=mostly([ABSENT], [1]),
        broadcast=mostly([ABSENT], [1]),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"], by_node=draw["by_node"])
        size = [draw["shape"][k] if k < 0 else k for k in draw["beside"]]
        constant = _constant(file, size, draw["value"])
        inputs = [constant, "x"] if draw["first"] else ["x", constant]
        given = {"axis": draw["axis"], "broadcast": draw["broadcast"]}
        yield Case(
            "arithmetic", described(draw), file.finish(file.add(draw["kind"], *inputs, **given))
        )


def of_activations() -> Iterator[Case]:
    """Two activations: of one shape, of shapes that broadcast, the same one twice, none at all."""
    others = mostly(["x", "relu", "one"], ["pooled", "cut", None, "nothing"])
    for draw in draws(
        "two activations",
        400,
        kind=PAIRS,
        shape=SHAPES,
        other=others,
        first=(False, True),
        third=(False, True),
    ):
        file = File(draw["shape"], draw["opset"], draw["seed"])
        other = _other(file, draw["other"])
        inputs = ["x"] if draw["other"] == "nothing" else ["x", other]
        inputs = [
            *(reversed(inputs) if draw["first"] else inputs),
            *(["x"] if draw["third"] else []),
        ]
        yield Case("two activations", described(draw), file.finish(file.add(draw["kind"], *inputs)))


def unary() -> Iterator[Case]:
    """Functions of one argument, most of which nothing is known of."""
    kinds = (
        "Neg",
        "Sqrt",
        "Exp",
        "Log",
        "Reciprocal",
        "Floor",
        "Ceil",
        "Round",
        "Sign",
        "Erf",
        "Sin",
        "Cos",
        "Square",
        "Not",
        "IsNaN",
        "Softplus",
        "Identity",
        "Abs",
    )
    for draw in draws(
        "unary",
        200,
        kind=kinds,
        shape=SHAPES[:2],
        outputs=mostly([1], [2]),
        odd=(ABSENT, ABSENT, 1),
    ):
        file = File(draw["shape"], draw["opset"], draw["seed"])
        made = file.add(draw["kind"], "x", outputs=draw["outputs"], consumed_inputs=draw["odd"])
        yield Case("unary", described(draw), file.finish(made))


def products() -> Iterator[Case]:
    """``Gemm``: both factors of every kind, transposed, scaled by any number."""
    numbers = mostly([ABSENT, 0.5, -2.0], [0.0, float("nan"), float("inf"), 1e-30, 1e30])
    chosen = draws(
        "Gemm",
        400,
        alpha=numbers,
        beta=numbers,
        trans_a=mostly([ABSENT, 0], [1]),
        trans_b=(ABSENT, 0, 1, 1),
        odd=mostly([False], [True]),
        bias=mostly([(5,), (1, 5), (1,), (), (1, 1), ABSENT], [(5, 1), (4, 5), (0,), None]),
        weight=mostly([(12, 5), (5, 12)], [(12,), (1, 12, 5)]),
        flat=mostly([True], [False]),
        by_node=(False, True),
    )
    for draw in chosen:
        file = File((3, 2, 2), draw["opset"], draw["seed"], by_node=draw["by_node"])
        weight = file.weights(*draw["weight"])
        if file.fitting and weight.ndim == 2:
            weight = weight.reshape((5, 12) if draw["trans_b"] == 1 else (12, 5))
        if draw["odd"]:
            weight = weight.astype(np.float64)
        bias: list[Any] = (
            [] if draw["bias"] is ABSENT else [draw["bias"] and file.weights(*draw["bias"])]
        )
        if draw["bias"] == ():
            bias = [np.float32(0.5)]
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        given = {
            "alpha": draw["alpha"],
            "beta": draw["beta"],
            "transA": draw["trans_a"],
            "transB": draw["trans_b"],
        }
        yield Case(
            "Gemm", described(draw), file.finish(file.add("Gemm", source, weight, *bias, **given))
        )


def matrices() -> Iterator[Case]:
    """``MatMul`` of vectors, planes and stacks, from both sides; integers; ``Einsum``."""
    kinds = mostly(["MatMul"], ["MatMulInteger", "Einsum", "QLinearMatMul"])
    weights = mostly(
        [(12, 5), (2, 5), (2, 2)],
        [(12,), (2,), (1, 2, 5), (3, 2, 5), (1, 12, 5), (5, 12), (2, 3, 2, 5), (0, 5)],
    )
    for draw in draws(
        "MatMul",
        400,
        kind=kinds,
        weight=weights,
        flat=(True, False),
        first=mostly([False], [True]),
    ):
        file = File((3, 2, 2), draw["opset"], draw["seed"])
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        inputs = [source, file.weights(*draw["weight"])]
        given: dict[str, Any] = {"equation": "ij,jk->ik"} if draw["kind"] == "Einsum" else {}
        made = file.add(draw["kind"], *(reversed(inputs) if draw["first"] else inputs), **given)
        yield Case("MatMul", described(draw), file.finish(made))


def _constant(file: File, size: list[int], value: str) -> Any:
    if value in ("normal", "double"):
        found = file.weights(*size) + np.float32(0.1)
        return found.astype(np.float64) if value == "double" else found
    special = {
        "zero": 0.0,
        "-0": -0.0,
        "tiny": 1e-40,
        "huge": 3e38,
        "inf": np.inf,
        "nan": np.nan,
        "positive": 0.7,
    }
    return np.full(size, special[value], np.float32)


def _other(file: File, kind: str | None) -> Any:
    match kind:
        case "relu":
            return file.add("Relu", "x")
        case "pooled":
            return file.add("GlobalAveragePool", "x")
        case "cut":
            return file.add("MaxPool", "x", kernel_shape=[1, 1], strides=[2, 2])
        case "one":
            return file.add("Add", "x", floats(1))
        case _:
            return kind


ARITHMETIC = {
    "arithmetic": with_constants,
    "two activations": of_activations,
    "unary": unary,
    "Gemm": products,
    "MatMul": matrices,
}
