"""Operators that take entries apart and put them together."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, OPSETS, Case, File, floats, integers
from tests.differential.space import described, draws, mostly

SHAPES = ((3, 6, 6), (2, 5, 8))
FAR = 2**63 - 1
PLACES = (0, 1, 2, -1, -2, 5, 100, -100, FAR, -FAR - 1, 2**31 - 1, -(2**31))


def pads() -> Iterator[Case]:
    """``Pad``: as an attribute, as an input, of some axes, with a value, backwards."""
    around = mostly(
        [
            [0, 0, 1, 2, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0, 1, 1],
            [0, 0, 5, 5, 0, 0, 5, 5],
        ],
        [
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 2, 1, 0],
            [0, 0, -1, 1, 0, 0, 1, -1],
            [1, 1],
            [0, 0, 0, 0, -1, 0, 0, 0],
        ],
    )
    values = mostly(
        [ABSENT, np.float32(0), floats(0), np.float32(-0.0)],
        [np.float32(1.5), floats(), floats(0, 0), np.float32("nan"), np.float32("-inf")],
    )
    chosen = draws(
        "Pad",
        700,
        shape=SHAPES,
        mode=mostly([ABSENT, "constant", "reflect", "edge"], ["wrap", "odd"]),
        pads=around,
        value=values,
        axes=mostly([ABSENT, [2, 3], [-1, -2], [3]], [[2, 2], [0], [2, -2]]),
        int32=(False, False, True),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        value, around_all = draw["value"], draw["pads"]
        if draw["axes"] is not ABSENT and len(around_all) == 8 and file.fitting:
            around_all = [around_all[a % 4 + k] for k in (0, 4) for a in draw["axes"]]
        if not file.by_input("Pad", "pads"):
            number = ABSENT if np.size(value) != 1 or value is ABSENT else np.asarray(value).item()
            made = file.add("Pad", "x", mode=draw["mode"], pads=draw["pads"], value=number)
        else:
            inputs: list[Any] = [integers(*around_all), None if value is ABSENT else value]
            if draw["axes"] is not ABSENT:
                kind = np.int32 if draw["int32"] else np.int64
                inputs.append(np.array(draw["axes"], kind))
            made = file.add("Pad", "x", *inputs, mode=draw["mode"])
        yield Case("Pad", described(draw), file.finish(made))


def slices() -> Iterator[Case]:
    """``Slice``: backwards, beyond both ends, to the ends of int64, of axes stated twice."""
    chosen = draws(
        "Slice",
        700,
        shape=SHAPES,
        start=PLACES,
        end=PLACES,
        step=mostly([ABSENT, 1, 2, -1, -2], [FAR, -FAR, 0]),
        axes=mostly([[2], [3], [-1], [1], [2, 3]], [ABSENT, [0], [2, 2], [3, -1], [4]]),
        int32=(False, False, True),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        axes = draw["axes"]
        count = 1 if axes is ABSENT else len(axes)
        starts, ends = [draw["start"]] * count, [draw["end"]] * count
        if not file.by_input("Slice", "starts"):
            made = file.add("Slice", "x", starts=starts, ends=ends, axes=axes)
        else:
            kind = np.int32 if draw["int32"] else np.int64
            tight = np.iinfo(kind)
            step = draw["step"]
            groups = [
                starts,
                ends,
                None if axes is ABSENT else axes,
                None if step is ABSENT else [step] * count,
            ]
            arrays = [
                None if g is None else np.clip(g, tight.min, tight.max).astype(kind) for g in groups
            ]
            made = file.add("Slice", "x", *arrays)
        yield Case("Slice", described(draw), file.finish(made))


def gathers() -> Iterator[Case]:
    """``Gather`` and its kin: negative indices, scalars, tables."""
    indices = mostly(
        [
            integers(0),
            np.array(1),
            integers(1, 0, -1),
            np.array([[0, 1], [-1, -2]]),
            np.zeros((1, 1, 1, 1), np.int64),
        ],
        [
            integers(9),
            integers(-9),
            np.array([1, 0], np.int32),
            floats(1),
            np.zeros((0,), np.int64),
            np.array(FAR),
        ],
    )
    kinds = mostly(["Gather"], ["GatherElements", "GatherND"])
    for draw in draws(
        "Gather",
        300,
        kind=kinds,
        shape=SHAPES,
        axis=mostly([1, 2, 3, -1, -2], [ABSENT, 0, 4, -4, -5]),
        indices=indices,
    ):
        file = File(draw["shape"], draw["opset"], draw["seed"])
        made = file.add(draw["kind"], "x", draw["indices"], axis=draw["axis"])
        yield Case("Gather", described(draw), file.finish(made))


def splits() -> Iterator[Case]:
    """``Split``: equal, unequal, wrong; every part is used, one part is used."""
    sizes = mostly(
        [ABSENT, [1, 2], [2, 1], [3, 3], [4, 2], [6], [1, 1, 4]], [[0, 6], [-1, 7], [5, 5]]
    )
    chosen = draws(
        "Split",
        300,
        shape=((3, 6, 6), (6, 6, 3)),
        axis=mostly([1, 2, 3, -1], [ABSENT, 0, 4]),
        sizes=sizes,
        outputs=(1, 2, 3, 4),
        num_outputs=(ABSENT, ABSENT, 2, 3),
        used=(0, 1),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        sizes_given, given = (
            draw["sizes"],
            {"axis": draw["axis"], "num_outputs": draw["num_outputs"]},
        )
        inputs = []
        if file.fitting and sizes_given is not ABSENT:
            draw["outputs"], given["num_outputs"] = len(sizes_given), ABSENT
        elif file.fitting and file.opset >= 18:
            given["num_outputs"] = draw["outputs"]
        if sizes_given is not ABSENT and file.by_input("Split", "split"):
            inputs = [integers(*sizes_given)]
        elif sizes_given is not ABSENT:
            given["split"] = sizes_given
        names = file.several("Split", "x", *inputs, outputs=draw["outputs"], **given)
        yield Case("Split", described(draw), file.finish(names[min(draw["used"], len(names) - 1)]))


def transposes() -> Iterator[Case]:
    """``Transpose`` by every permutation of the batch and the image."""
    orders: list[Any] = [
        ABSENT,
        [0, 1, 2],
        [0, 1, 1, 3],
        [0, -1, 1, 2],
        [],
        *map(list, itertools.permutations(range(4))),
    ]
    for draw in draws("Transpose", 120, shape=SHAPES, perm=orders, opset=OPSETS[::4]):
        file = File(draw["shape"], draw["opset"], draw["seed"])
        yield Case(
            "Transpose", described(draw), file.finish(file.add("Transpose", "x", perm=draw["perm"]))
        )


def joins() -> Iterator[Case]:
    """``Concat`` of the same value, of different ones, of constants, along every axis."""
    chosen = draws(
        "Concat",
        240,
        shape=SHAPES,
        axis=mostly([1, 2, 3, -1, -3], [ABSENT, 0, -4, 4]),
        other=("x", "relu", "half", "constant", ""),
        third=(False, True),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        other: Any = {"x": "x", "": None}.get(draw["other"], "x")
        if draw["other"] == "relu":
            other = file.add("Relu", "x")
        elif draw["other"] == "half":
            other = file.add("MaxPool", "x", kernel_shape=[2, 2])
        elif draw["other"] == "constant":
            other = file.weights(1, *draw["shape"])
        made = file.add("Concat", "x", other, *(["x"] if draw["third"] else []), axis=draw["axis"])
        yield Case("Concat", described(draw), file.finish(made))


def blocks() -> Iterator[Case]:
    """``DepthToSpace``, ``Tile``, ``Expand``, ``Where`` and others that move entries."""
    kinds = (
        "DepthToSpace",
        "SpaceToDepth",
        "Tile",
        "Expand",
        "Where",
        "ReverseSequence",
        "Trilu",
        "CenterCropPad",
    )
    for draw in draws(
        "blocks",
        240,
        kind=kinds,
        opset=OPSETS[::2],
        shape=((4, 4, 6), (8, 2, 2)),
        mode=(ABSENT, "DCR", "CRD"),
    ):
        file, kind = File(draw["shape"], draw["opset"], draw["seed"]), draw["kind"]
        inputs: dict[str, list[Any]] = {
            "Tile": ["x", integers(1, 1, 2, 1)],
            "Expand": ["x", integers(1, *draw["shape"])],
            "Where": [file.weights(1, 1, 1, draw["shape"][2]) > 0, "x", floats(0)],
            "ReverseSequence": ["x", integers(1)],
            "CenterCropPad": ["x", integers(2, 2)],
        }
        given = {"blocksize": 2, "mode": draw["mode"]} if "Depth" in kind else {}
        given |= {"axes": [2, 3]} if kind == "CenterCropPad" else {}
        yield Case(
            "blocks",
            described(draw),
            file.finish(file.add(kind, *inputs.get(kind, ["x"]), **given)),
        )


MOVING = {
    "Pad": pads,
    "Slice": slices,
    "Gather": gathers,
    "Split": splits,
    "Transpose": transposes,
    "Concat": joins,
    "blocks": blocks,
}
