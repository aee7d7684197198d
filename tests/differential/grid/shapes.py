"""Other shapes of the same entries, also where they are computed or touch the batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, Case, File, floats, integers
from tests.differential.space import described, draws, mostly

AXES = mostly(
    [[1], [2], [3], [2, 3], [-1], [-1, -2]],
    [ABSENT, [2, 2], [2, -2], [0], [0, 1], [-4], [4], [5], [], [-5]],
)


def reshapes() -> Iterator[Case]:
    """``Reshape``: the batch kept, inferred, fixed, folded; zeros; wrong sizes."""
    targets: tuple[list[int], ...] = (
        [0, -1],
        [-1, 48],
        [1, 48],
        [1, -1],
        [0, 48],
        [-1, 3, 16],
        [0, 3, -1],
        [0, 0, -1],
        [0, 0, 0, 0],
        [48],
        [-1],
        [-1, 16],
        [-1, 0],
        [-1, 0, 16],
        [0, 0, 0, -1, 0],
        [2, -1],
        [0, -1, -1],
        [0, 6, 4, 2],
        [0, 4, 4, 3],
        [0, 5, -1],
        [-1, 24],
        [3, -1, 16],
        [0, -2],
        [],
        [0, 1, 3, 16],
        [1, 3, 4, 4],
        [-1, 3, 4, 4],
        [2**62, 4],
        [0, 48, 1],
        [-1, 96],
        [0],
    )
    for draw in draws(
        "Reshape",
        600,
        target=targets,
        zero=(ABSENT, ABSENT, 0, 1),
        ranks=(1, 1, 1, 2),
        int32=(False, False, False, True),
        by_node=(False, True),
    ):
        file = File((3, 4, 4), draw["opset"], draw["seed"], by_node=draw["by_node"])
        target = np.array(
            draw["target"],
            np.int32 if draw["int32"] and max(draw["target"], default=0) < 2**31 else np.int64,
        )
        target = target.reshape(1, -1) if draw["ranks"] == 2 else target
        made = file.add("Reshape", file.add("Relu", "x"), target, allowzero=draw["zero"])
        yield Case("Reshape", described(draw), file.finish(made))


def flattened() -> Iterator[Case]:
    """``Flatten`` at every axis, once and twice."""
    for draw in draws(
        "Flatten",
        200,
        axis=(ABSENT, 0, 1, 2, 3, 4, -1, -2, -3, -4, -5),
        again=(ABSENT, 0, 1, -1, 2),
        flat=(True, False),
    ):
        file = File((3, 2, 2), draw["opset"], draw["seed"])
        made = file.add("Flatten", "x", axis=draw["axis"])
        made = made if draw["again"] is ABSENT else file.add("Flatten", made, axis=draw["again"])
        yield Case("Flatten", described(draw), file.finish(made, flat=draw["flat"]))


def squeezes() -> Iterator[Case]:
    """``Squeeze`` and ``Unsqueeze``, of the batch too, as attribute and as input."""
    chosen = draws(
        "Squeeze",
        600,
        kind=("Squeeze", "Unsqueeze"),
        shape=((3, 1, 1), (1, 1, 1), (2, 3, 4)),
        axes=AXES,
        flat=(True, True, False),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        axes = draw["axes"]
        by_input = file.by_input(draw["kind"], "axes")
        inputs = [integers(*axes)] if by_input and axes is not ABSENT else []
        given = {} if by_input else {"axes": axes}
        yield Case(
            "Squeeze",
            described(draw),
            file.finish(file.add(draw["kind"], "x", *inputs, **given), flat=draw["flat"]),
        )


def computed() -> Iterator[Case]:
    """A reshape to sizes that the file computes from the shape of an activation."""
    ways = (
        "concat",
        "slice",
        "whole",
        "gathered",
        "product",
        "batch product",
        "batch arithmetic",
        "of batch",
        "size",
        "cast",
    )
    chosen = draws(
        "computed shapes",
        500,
        way=ways,
        start=mostly([ABSENT, 0], [1, -3, 5, -9]),
        end=mostly([ABSENT, 9, 4], [1, 2, -1]),
        cast=(True, False),
    )
    for draw in chosen:
        file = File((3, 4, 4), draw["opset"], draw["seed"])
        given = {"start": draw["start"], "end": draw["end"]}
        shape = file.add("Shape", "x", **({} if draw["opset"] < 15 else given))
        if draw["cast"]:
            shape = file.add("Cast", shape, to=7)
        yield Case(
            "computed shapes",
            described(draw),
            file.finish(file.add("Reshape", "x", _wanted(file, shape, draw["way"]))),
        )


def _wanted(file: File, shape: str, way: str) -> str:
    first = file.add("Gather", shape, integers(0), axis=0)
    match way:
        case "concat":
            return file.add("Concat", first, integers(-1), axis=0)
        case "slice" if file.opset >= 10:
            return file.add(
                "Concat", file.add("Slice", shape, integers(0), integers(1)), integers(-1), axis=0
            )
        case "gathered":
            second = file.add("Gather", shape, integers(-1), axis=0)
            return file.add("Concat", first, second, integers(-1), axis=0)
        case "product":
            second, third = (file.add("Gather", shape, integers(k), axis=0) for k in (1, 2))
            return file.add("Concat", first, file.add("Mul", second, third), integers(-1), axis=0)
        case "batch product":
            return file.add("Concat", file.add("Mul", first, integers(2)), integers(-1), axis=0)
        case "batch arithmetic":
            same = file.add("Sub", file.add("Add", first, integers(1)), integers(1))
            return file.add("Concat", same, integers(-1), axis=0)
        case "of batch":
            return file.add("Concat", integers(-1), first, axis=0)
        case "size":
            return file.add("Concat", integers(-1), file.add("Size", "x"), axis=0)
        case "cast":
            return file.add("Cast", file.add("Cast", shape, to=1), to=7)
        case _:
            return shape


def casts() -> Iterator[Case]:
    """``Cast`` of activations to every type and back."""
    for draw in draws(
        "Cast",
        240,
        to=mostly([1], [ABSENT, 0, 2, 3, 6, 7, 9, 10, 11, 16, 17, 99]),
        saturate=(ABSENT, ABSENT, 0, 1),
        like=(False, False, True),
    ):
        file = File((2, 3, 3), draw["opset"], draw["seed"])
        if draw["like"]:
            made = file.add("CastLike", "x", floats(1))
        else:
            made = file.add("Cast", "x", to=draw["to"], saturate=draw["saturate"])
        yield Case("Cast", described(draw), file.finish(file.add("Cast", made, to=1)))


def constants() -> Iterator[Case]:
    """A constant of every kind added to the image."""
    values: dict[str, Any] = {
        "value_float": 0.5,
        "value_int": 2,
        "value_floats": [0.5, 1.0],
        "value_ints": [1],
        "value_string": "a",
        "nothing": 0,
    }
    odd = {"inf": float("inf"), "nan": float("nan"), "huge": 1e39}
    for draw in draws(
        "Constant", 200, kind=(*values, *odd), twice=(False, False, True), outputs=(1, 1, 1, 0)
    ):
        file, kind = File((2, 3, 2), draw["opset"], draw["seed"]), draw["kind"]
        given = (
            {}
            if kind == "nothing"
            else {kind: values[kind]}
            if kind in values
            else {"value_float": odd[kind]}
        )
        given |= {"value_int": 3} if draw["twice"] else {}
        made = file.add("Constant", outputs=draw["outputs"] or 1, **given)
        yield Case("Constant", described(draw), file.finish(file.add("Add", "x", made)))


def nothing_done() -> Iterator[Case]:
    """``Identity`` and ``Dropout`` with ratios, masks, training modes."""
    chosen = draws(
        "Dropout",
        300,
        ratio=mostly([ABSENT, 0.0, 0.5], [1.0, 2.0, float("nan")]),
        training=mostly([ABSENT, False], [True, "computed"]),
        outputs=mostly([1], [2]),
        used=(0, 0, 1),
        odd=mostly([ABSENT, "seed"], ["is_test"]),
    )
    for draw in chosen:
        file = File((2, 3, 2), draw["opset"], draw["seed"])
        ratio, inputs, given = draw["ratio"], list[Any](), dict[str, Any]()
        if file.by_input("Dropout", "ratio"):
            inputs = [None if ratio is ABSENT else np.float32(ratio)]
            inputs += [np.array(draw["training"])] if isinstance(draw["training"], bool) else []
        else:
            given = {"ratio": ratio}
        given |= {} if draw["odd"] is ABSENT else {draw["odd"]: 1}
        names = file.several("Dropout", "x", *inputs, outputs=draw["outputs"], **given)
        yield Case("Dropout", described(draw), file.finish(names[draw["used"] % draw["outputs"]]))


SHAPES = {
    "Reshape": reshapes,
    "Flatten": flattened,
    "Squeeze": squeezes,
    "computed shapes": computed,
    "Cast": casts,
    "Constant": constants,
    "Dropout": nothing_done,
}
