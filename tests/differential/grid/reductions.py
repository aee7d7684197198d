"""Means, extremes, sums and sorts over axes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, Case, File, integers
from tests.differential.space import described, draws, mostly

SHAPES = ((3, 4, 4), (2, 5, 3))
AXES = mostly(
    [[2, 3], [3, 2], [-1, -2], [1], [-3], [2], [3], [1, 2, 3]],
    [ABSENT, [2, 2], [2, -2], [0], [0, 2, 3], [-4], [4], []],
)
KINDS = mostly(
    ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"],
    ["ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSumExp", "ReduceSumSquare"],
)


def reductions() -> Iterator[Case]:
    """Over every set of axes, as an attribute and as an input, with the axes kept or not."""
    chosen = draws(
        "reductions",
        900,
        kind=KINDS,
        shape=SHAPES,
        axes=AXES,
        keepdims=mostly([ABSENT, 0, 1], [2]),
        noop=(ABSENT, ABSENT, 0, 1),
        int32=mostly([False], [True]),
        flat=mostly([False], [True]),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        axes, given, inputs = (
            draw["axes"],
            {"keepdims": draw["keepdims"], "noop_with_empty_axes": draw["noop"]},
            list[Any](),
        )
        if axes is not ABSENT and file.by_input(draw["kind"], "axes"):
            inputs = [np.array(axes, np.int32 if draw["int32"] else np.int64)]
        else:
            given["axes"] = axes
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        yield Case(
            "reductions",
            described(draw),
            file.finish(file.add(draw["kind"], source, *inputs, **given)),
        )


def exported() -> Iterator[Case]:
    """As exporters write them: attributes below opset 18 (13 for sums), inputs from there."""
    axes = ([2, 3], [-1, -2], [-2, -1], [1], [3], [1, 2, 3], [-1])
    for draw in draws(
        "exported reductions", 500, kind=sorted(set(KINDS)), axes=axes, keepdims=(0, 1)
    ):
        file, kind = File((3, 4, 5), draw["opset"], draw["seed"]), draw["kind"]
        by_input = draw["opset"] >= (13 if kind == "ReduceSum" else 18)
        inputs = [integers(*draw["axes"])] if by_input else []
        given = {} if by_input else {"axes": draw["axes"]}
        made = file.add(kind, "x", *inputs, keepdims=draw["keepdims"], **given)
        yield Case("exported reductions", described(draw), file.finish(made))


def sorts() -> Iterator[Case]:
    """``TopK``: k as an attribute, then as an input; ties; both outputs."""
    chosen = draws(
        "TopK",
        400,
        shape=((4, 3, 3), (3, 4, 3)),
        k=mostly([1, 2, 3], [4, 0, -1, 99]),
        axis=mostly([ABSENT, 1, 2, 3, -1, -3], [0]),
        largest=(ABSENT, 0, 1),
        sort=mostly([ABSENT, 1], [0]),
        used=mostly([0], [1]),
        outputs=mostly([2], [1]),
        size=mostly([1], [2]),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        by_input = file.by_input("TopK", "k")
        inputs = [integers(*[draw["k"]] * draw["size"])] if by_input else []
        given = {"axis": draw["axis"], "largest": draw["largest"], "sorted": draw["sort"]}
        given |= {} if by_input else {"k": draw["k"]}
        names = file.several("TopK", "x", *inputs, outputs=draw["outputs"], **given)
        yield Case("TopK", described(draw), file.finish(names[draw["used"] % draw["outputs"]]))


def indices() -> Iterator[Case]:
    """What gives places instead of values, then numbers of them."""
    for draw in draws(
        "indices", 60, kind=("ArgMax", "ArgMin", "NonZero", "CumSum", "Unique"), axis=(1, -1, 0)
    ):
        file = File((3, 2, 2), draw["opset"], draw["seed"])
        given = {"axis": draw["axis"]} if draw["kind"].startswith("Arg") else {}
        made = file.add(
            draw["kind"], "x", *([integers(1)] if draw["kind"] == "CumSum" else []), **given
        )
        yield Case("indices", described(draw), file.finish(file.add("Cast", made, to=1)))


def normalised_features() -> Iterator[Case]:
    """A feature divided by its length, and what nearly is one."""
    chosen = draws(
        "divided by the length",
        300,
        least=mostly([1e-12, 0.1], [0.0, -1.0, None]),
        expand=(True, False),
        axes=mostly([[1], [-1]], [[0], [1, 1]]),
        keepdims=mostly([1], [0]),
        after=mostly([False], [True]),
        kind=mostly(["ReduceL2"], ["ReduceL1"]),
        floor=mostly(["Clip"], ["Max", "Add"]),
    )
    for draw in chosen:
        file = File((2, 3, 3), draw["opset"], draw["seed"])
        vector = file.add(
            "Gemm", file.add("Flatten", "x"), file.weights(5, 18), file.weights(5), transB=1
        )
        by_input = file.by_input(draw["kind"], "axes")
        inputs = [integers(*draw["axes"])] if by_input else []
        given = {} if by_input else {"axes": draw["axes"]}
        length = file.add(draw["kind"], vector, *inputs, keepdims=draw["keepdims"], **given)
        least = None if draw["least"] is None else np.float32(draw["least"])
        if draw["floor"] == "Clip" and draw["opset"] < 11:
            length = file.add("Clip", length, min=ABSENT if least is None else float(least))
        else:
            length = file.add(draw["floor"], length, *([] if least is None else [least]))
        if draw["expand"]:
            length = file.add("Expand", length, file.add("Shape", vector))
        made = file.add("Div", vector, length)
        made = file.add("Relu", made) if draw["after"] else made
        file.nodes[-1].output[0] = "out"
        yield Case(
            "divided by the length", described(draw), bytes(file.model().SerializeToString())
        )


REDUCTIONS = {
    "reductions": reductions,
    "exported reductions": exported,
    "TopK": sorts,
    "indices": indices,
    "divided by the length": normalised_features,
}
