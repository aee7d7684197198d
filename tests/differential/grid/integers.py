"""Arithmetic of constant integers, whose result says where an activation is cut or padded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from onnx import numpy_helper

from tests.differential.file import ABSENT, Array, Case, File, floats, integers
from tests.differential.space import Draw, described, draws, mostly

FAR = 2**63 - 1
VALUES = (0, 1, 2, 3, -1, -2, -3, 5, 7, -7, FAR, -FAR - 1, FAR - 1, 2**62, 2**32, 2**31, -(2**31))
BINARY = mostly(
    ["Add", "Sub", "Mul", "Div"], ["Mod", "Min", "Max", "Pow", "BitShift", "BitwiseAnd", "And"]
)
UNARY = mostly(["Neg", "Abs", "Sign", "Identity"], ["Not", "Floor", "Sqrt"])
USES = ("starts", "ends", "steps", "pads", "sizes", "reshape", "gather", "axes")


def arithmetic() -> Iterator[Case]:
    """Two integers, one result: wrapped at 64 bits, truncated towards zero, by zero."""
    chosen = draws(
        "integer arithmetic",
        1200,
        kind=BINARY,
        left=VALUES,
        right=VALUES,
        use=USES,
        opset=(7, 9, 10, 11, 13, 14, 18, 21, 24),
        int32=mostly([False], [True]),
        again=(ABSENT, ABSENT, "Div", "Sub", "Mul"),
    )
    for draw in chosen:
        file = File((2, 6, 6), draw["opset"], draw["seed"])
        tight = np.iinfo(np.int32 if draw["int32"] else np.int64)
        left, right = (
            np.array([np.clip(draw[k], tight.min, tight.max)], tight.dtype)
            for k in ("left", "right")
        )
        given: dict[str, Any] = {"direction": "LEFT"} if draw["kind"] == "BitShift" else {}
        value = file.add(draw["kind"], left, right, **given)
        if draw["again"] is not ABSENT:
            value = file.add(draw["again"], value, np.array([2], tight.dtype))
        if draw["int32"]:
            value = file.add("Cast", value, to=7)
        yield Case("integer arithmetic", described(draw), file.finish(_used(file, value, draw)))


def of_small_numbers() -> Iterator[Case]:
    """The same with numbers as shapes have them: most files are read."""
    small = (0, 1, 2, 3, 4, 6, -1, -2, -3, -5)
    chosen = draws(
        "small integers",
        800,
        kind=("Add", "Sub", "Mul", "Div", "Div", "Mod"),
        left=small,
        right=small,
        use=USES,
        opset=(10, 11, 13, 14, 18, 21),
        scalar=(False, False, True),
    )
    for draw in chosen:
        file = File((2, 6, 6), draw["opset"], draw["seed"])
        right = np.array(draw["right"]) if draw["scalar"] else integers(draw["right"])
        value = file.add(draw["kind"], integers(draw["left"]), right)
        yield Case("small integers", described(draw), file.finish(_used(file, value, draw)))


def unary() -> Iterator[Case]:
    """Functions of one integer."""
    for draw in draws(
        "unary integers", 300, kind=UNARY, left=VALUES, use=USES, opset=(8, 10, 11, 13, 18)
    ):
        file = File((2, 6, 6), draw["opset"], draw["seed"])
        yield Case(
            "unary integers",
            described(draw),
            file.finish(_used(file, file.add(draw["kind"], integers(draw["left"])), draw)),
        )


def assembled() -> Iterator[Case]:
    """Paddings and cuts put together from pieces, as exporters do."""
    ways = (
        "fill",
        "concat",
        "cut",
        "reversed",
        "gathered",
        "range",
        "where",
        "expand",
        "turned",
        "split",
        "cast down",
        "floats",
        "tile",
        "take",
    )
    chosen = draws(
        "assembled integers",
        700,
        way=ways,
        opset=(9, 10, 11, 13, 14, 18, 21, 24),
        count=(4, 6, 8, 0, -1),
        number=(0, 1, 2, -1),
        place=(0, 1, 2, -1, -2, 9, -9),
        fill=("int64", "int64", "int32", "float", "two", "none"),
    )
    for draw in chosen:
        file = File((2, 6, 6), draw["opset"], draw["seed"])
        value = _assembled(file, draw)
        yield Case("assembled integers", described(draw), file.finish(file.add("Pad", "x", value)))


def rounded() -> Iterator[Case]:
    """Constants of float32, computed by the file: they are rounded, where the engine might not."""
    chosen = draws(
        "float constants",
        300,
        kind=(
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Neg",
            "Sqrt",
            "Exp",
            "Pow",
            "Reciprocal",
            "Concat",
            "Identity",
            "Cast",
        ),
        left=(0.1, 1e30, 16777216.0, 1e-30, 0.0, 3.0),
        right=(0.3, 1e30, 1.0, 1e-30, 0.0, -7.0),
        use=("Add", "Mul", "Div"),
    )
    for draw in chosen:
        file = File((2, 3, 3), draw["opset"], draw["seed"])
        unary = draw["kind"] in ("Neg", "Sqrt", "Exp", "Reciprocal", "Identity", "Cast")
        given: dict[str, Any] = {"Concat": {"axis": 0}, "Cast": {"to": 1}}.get(draw["kind"], {})
        value = file.add(
            draw["kind"], floats(draw["left"]), *([] if unary else [floats(draw["right"])]), **given
        )
        value = file.add("Gather", value, np.array(0), axis=0)
        yield Case(
            "float constants", described(draw), file.finish(file.add(draw["use"], "x", value))
        )


def _used(file: File, value: str, draw: Draw) -> str:
    """An activation cut, padded or reshaped by ``value``, a vector of one integer."""
    match draw["use"]:
        case "starts":
            return file.add("Slice", "x", value, integers(FAR), integers(2))
        case "ends":
            return file.add("Slice", "x", integers(0), value, integers(2))
        case "steps":
            return file.add("Slice", "x", integers(4), integers(-9), integers(2), value)
        case "pads":
            return file.add(
                "Pad",
                "x",
                file.add("Concat", integers(0, 0), value, integers(0, 0, 0, 1, 0), axis=0),
            )
        case "sizes":
            sizes = file.add("Concat", integers(6), value, axis=0)
            return file.add(
                "Resize",
                "x",
                None,
                None,
                sizes,
                axes=[2, 3],
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        case "reshape":
            return file.add(
                "Reshape", "x", file.add("Concat", integers(0), value, integers(-1), axis=0)
            )
        case "gather":
            return file.add("Gather", "x", value, axis=2)
        case _:
            return file.add("Slice", "x", integers(1), integers(3), value)


def _assembled(file: File, draw: Draw) -> str:
    number, place = draw["number"], draw["place"]
    eight = integers(0, 0, 1, number, 0, 0, 2, 1)
    match draw["way"]:
        case "fill":
            kinds: dict[str, Array] = {
                "int64": integers(number),
                "int32": np.array([number], np.int32),
                "float": floats(number),
                "two": integers(number, 1),
            }
            given: dict[str, Any] = (
                {"value": numpy_helper.from_array(kinds[draw["fill"]])}
                if draw["fill"] in kinds
                else {}
            )
            rest = file.add("ConstantOfShape", integers(draw["count"]), **given)
            return file.add("Concat", integers(0, 0, 1, 1), rest, axis=0)
        case "cut":
            return file.add("Slice", eight, integers(place), integers(2**31), integers(0))
        case "reversed":
            return file.add(
                "Slice", eight, integers(-1), integers(-FAR - 1), integers(0), integers(-1)
            )
        case "gathered":
            return file.add("Gather", eight, integers(0, 1, 2, place, 4, 5, 6, 7), axis=0)
        case "range":
            return file.add("Range", np.array(0), np.array(8), np.array(1))
        case "where":
            return file.add("Where", np.array([False] * 3 + [True] * 5), eight, integers(*[0] * 8))
        case "expand":
            return file.add("Expand", integers(number), integers(8))
        case "turned":
            pairs = file.add("Reshape", eight, integers(-1, 2))
            pairs = file.add(
                "Slice", pairs, integers(-1), integers(-FAR), integers(0), integers(-1)
            )
            return file.add("Reshape", file.add("Transpose", pairs, perm=[1, 0]), integers(-1))
        case "split":
            first, second = file.several("Split", eight, axis=0)
            return file.add("Concat", second, first, axis=0)
        case "cast down":
            return file.add(
                "Cast",
                file.add("Cast", eight + (2**32 + 2**8) * (number > 0), to=(6, 2, 3)[place % 3]),
                to=7,
            )
        case "floats":
            return file.add("Cast", file.add("Cast", eight, to=1), to=7)
        case "tile":
            return file.add("Tile", integers(0, 0, 1, number), integers(2))
        case "take":
            return file.add("Squeeze", file.add("Unsqueeze", eight, integers(0)), integers(0))
        case _:
            return file.add(
                "Concat", integers(0, 0), integers(number, 1), integers(0, 0, 1, 1), axis=0
            )


INTEGERS = {
    "integer arithmetic": arithmetic,
    "small integers": of_small_numbers,
    "unary integers": unary,
    "assembled integers": assembled,
    "float constants": rounded,
}
