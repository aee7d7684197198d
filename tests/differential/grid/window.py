"""Convolutions and pools: every way to pad, stride, dilate, group and round up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.differential.file import ABSENT, Case, File
from tests.differential.space import Draw, described, draws, mostly

SHAPES = ((4, 7, 7), (2, 6, 9), (4, 5, 3))
AUTO_PADS = (ABSENT, ABSENT, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
GROUPS = mostly([ABSENT, 1, 2], [4, 0])
PADS = mostly(
    [ABSENT, [1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]],
    [[2, 2, 2, 2], [0, -1, 0, 0], [1, 1]],
)
STRIDES = mostly([ABSENT, [1, 1], [2, 2], [2, 1], [3, 2]], [[0, 1], [2]])
DILATIONS = mostly([ABSENT, [1, 1], [2, 2], [1, 3], [2, 1]], [[0, 1]])
KERNELS = ((3, 3), (2, 2), (2, 3), (1, 1), (3, 1))


def convolutions() -> Iterator[Case]:
    """``Conv``, with and without bias, kernel_shape, groups."""
    chosen = draws(
        "Conv",
        500,
        shape=SHAPES,
        kernel=KERNELS,
        pads=PADS,
        strides=STRIDES,
        group=GROUPS,
        dilations=DILATIONS,
        auto_pad=AUTO_PADS,
        stated=(True, False),
        bias=(0, 1, 2),
        by_node=(False, True),
    )
    for draw in chosen:
        file, attributes = _started(draw)
        kernel, group = draw["kernel"], draw["group"]
        split = max(group, 1) if isinstance(group, int) else 1
        attributes |= {"group": group, "kernel_shape": kernel if draw["stated"] else ABSENT}
        weight = file.weights(4, max(1, draw["shape"][0] // split), *kernel)
        bias = ([], [None], [file.weights(4)])[draw["bias"]]
        yield _case("Conv", draw, file, "x", weight, *bias, **attributes)


def transposed_convolutions() -> Iterator[Case]:
    """``ConvTranspose``, with output_padding and output_shape."""
    chosen = draws(
        "ConvTranspose",
        300,
        shape=((4, 4, 4), (2, 3, 5)),
        kernel=KERNELS,
        pads=PADS,
        strides=STRIDES,
        group=(ABSENT, 1, 2),
        dilations=DILATIONS,
        auto_pad=AUTO_PADS,
        bias=(False, True),
        output_padding=(ABSENT, ABSENT, [1, 1], [1, 0]),
        output_shape=(ABSENT, ABSENT, ABSENT, [8, 9], [7, 7]),
    )
    for draw in chosen:
        file, attributes = _started(draw)
        group = draw["group"] if isinstance(draw["group"], int) else 1
        attributes |= {name: draw[name] for name in ("output_padding", "output_shape", "group")}
        weight = file.weights(draw["shape"][0], 2, *draw["kernel"])
        bias = [file.weights(2 * group)] if draw["bias"] else []
        yield _case("ConvTranspose", draw, file, "x", weight, *bias, **attributes)


def maximum_pools() -> Iterator[Case]:
    """``MaxPool``, of negative numbers too: padding must never win."""
    chosen = draws(
        "MaxPool",
        600,
        shape=SHAPES,
        kernel=KERNELS,
        pads=PADS,
        strides=STRIDES,
        dilations=DILATIONS,
        auto_pad=AUTO_PADS,
        ceil_mode=(ABSENT, 0, 1),
        storage_order=mostly([ABSENT, 0], [1]),
        outputs=mostly([1], [2]),
        less=(0.0, 0.5),
    )
    for draw in chosen:
        file, attributes = _started(draw)
        attributes |= {name: draw[name] for name in ("ceil_mode", "storage_order", "outputs")}
        yield _case(
            "MaxPool", draw, file, _lowered(file, draw), kernel_shape=draw["kernel"], **attributes
        )


def average_pools() -> Iterator[Case]:
    """``AveragePool``: which windows there are, and by what each is divided."""
    chosen = draws(
        "AveragePool",
        700,
        shape=SHAPES,
        kernel=KERNELS,
        pads=PADS,
        strides=STRIDES,
        dilations=DILATIONS,
        auto_pad=AUTO_PADS,
        ceil_mode=(ABSENT, 0, 1, 1),
        count_include_pad=(ABSENT, 0, 1),
    )
    for draw in chosen:
        file, attributes = _started(draw)
        attributes |= {name: draw[name] for name in ("ceil_mode", "count_include_pad")}
        yield _case("AveragePool", draw, file, "x", kernel_shape=draw["kernel"], **attributes)


def dilated_same_pools() -> Iterator[Case]:
    """Pools that pad themselves around a dilated kernel: the runtime ignores the dilation."""
    chosen = draws(
        "dilated pools",
        240,
        kind=("MaxPool", "AveragePool"),
        shape=((1, 9, 9), (2, 8, 7)),
        kernel=((3, 3), (2, 3)),
        strides=(ABSENT, [2, 2], [1, 2]),
        dilations=([2, 2], [1, 2], [3, 2]),
        auto_pad=("SAME_UPPER", "SAME_LOWER", "VALID"),
        ceil_mode=(ABSENT, 1),
        opset=(10, 11, 12, 17, 18, 19, 20, 21, 22, 23, 24, 25),
    )
    for draw in chosen:
        file, attributes = _started(draw)
        attributes |= {"ceil_mode": draw["ceil_mode"], "kernel_shape": draw["kernel"]}
        yield _case("dilated pools", draw, file, "x", kind=draw["kind"], **attributes)


def other_pools() -> Iterator[Case]:
    """Global pools, ``LpPool``, and pools without what they need."""
    kinds = (
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
        "LpPool",
        "MaxPool",
        "AveragePool",
        "MaxRoiPool",
        "MaxUnpool",
    )
    for draw in draws(
        "other pools",
        160,
        kind=kinds,
        shape=SHAPES,
        outputs=mostly([1], [2]),
        ceil_mode=(ABSENT, 1),
    ):
        file, _ = _started(draw)
        odd = {"ceil_mode": draw["ceil_mode"], "outputs": draw["outputs"]}
        yield _case("other pools", draw, file, "x", kind=draw["kind"], **odd)


def _started(draw: Draw) -> tuple[File, dict[str, Any]]:
    file = File(draw["shape"], draw["opset"], draw["seed"], by_node=draw.get("by_node", False))
    names = ("pads", "strides", "dilations", "auto_pad")
    return file, {name: draw[name] for name in names if name in draw}


def _lowered(file: File, draw: Draw) -> str:
    """The image less a number, so that windows have negative values only."""
    less = draw["less"]
    return file.add("Sub", "x", file.weights(1, size=0) + less) if less else "x"


def _case(family: str, draw: Draw, file: File, *inputs: Any, kind: str = "", **given: Any) -> Case:
    return Case(family, described(draw), file.finish(file.add(kind or family, *inputs, **given)))


WINDOWS = {
    "Conv": convolutions,
    "ConvTranspose": transposed_convolutions,
    "MaxPool": maximum_pools,
    "AveragePool": average_pools,
    "dilated pools": dilated_same_pools,
    "other pools": other_pools,
}
