"""Normalisations: by stored moments, and by what the image itself holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.differential.file import ABSENT, Case, File
from tests.differential.space import described, draws, mostly


def batch_normalisations() -> Iterator[Case]:
    """``BatchNormalization`` with every attribute of every opset, one output or five."""
    chosen = draws(
        "BatchNormalization",
        600,
        outputs=mostly([1], [3, 4, 5]),
        epsilon=mostly([ABSENT, 1e-3, 0.5], [0.0, -1.0, float("nan")]),
        training=mostly([ABSENT, 0], [1]),
        spatial=mostly([ABSENT, 1], [0]),
        is_test=mostly([ABSENT], [0, 1]),
        momentum=(ABSENT, 0.5, 1.0),
        by_node=(False, True),
        count=mostly([3], [1, 5, 48]),
        variance=mostly(["one", "small"], ["zero", "negative"]),
        flat=(False, False, True),
        inputs=mostly([5], [4]),
    )
    for draw in chosen:
        file = File((3, 4, 4), draw["opset"], draw["seed"], by_node=draw["by_node"])
        count = draw["count"] if not draw["flat"] else 48
        scale = {"one": 1.0, "small": 1e-6, "zero": 0.0, "negative": -1.0}[draw["variance"]]
        variance = (scale * (0.5 + np.abs(file.weights(count)))).astype(np.float32)
        inputs = [file.weights(count), file.weights(count), file.weights(count), variance][
            : draw["inputs"] - 1
        ]
        given = {
            "epsilon": draw["epsilon"],
            "momentum": draw["momentum"],
            "training_mode": draw["training"],
            "spatial": draw["spatial"],
            "is_test": draw["is_test"],
        }
        source = file.add("Flatten", "x") if draw["flat"] else "x"
        made = file.add("BatchNormalization", source, *inputs, outputs=draw["outputs"], **given)
        yield Case("BatchNormalization", described(draw), file.finish(made))


def plain_batch_normalisations() -> Iterator[Case]:
    """As exporters write it, and with one thing more that changes its meaning."""
    chosen = draws(
        "plain BatchNormalization",
        300,
        outputs=mostly([1], [5]),
        spatial=(ABSENT, 0),
        training=mostly([ABSENT, 0], [1]),
        epsilon=(ABSENT, 1e-3),
    )
    for draw in chosen:
        file = File((2, 4, 4), draw["opset"], draw["seed"])
        parameters = [
            file.weights(2),
            file.weights(2),
            file.weights(2),
            np.abs(file.weights(2)) + np.float32(0.5),
        ]
        given = {
            "spatial": draw["spatial"],
            "training_mode": draw["training"],
            "epsilon": draw["epsilon"],
        }
        made = file.add("BatchNormalization", "x", *parameters, outputs=draw["outputs"], **given)
        yield Case("plain BatchNormalization", described(draw), file.finish(made))


def other_normalisations() -> Iterator[Case]:
    """Normalisations by what the image itself holds."""
    kinds = (
        "InstanceNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "LpNormalization",
        "RMSNormalization",
    )
    chosen = draws(
        "normalisations",
        400,
        kind=kinds,
        axis=mostly([ABSENT, 1, -1, 2, 3], [0]),
        epsilon=mostly([ABSENT, 1e-2], [0.0, float("nan")]),
        outputs=mostly([1], [2, 3]),
    )
    for draw in chosen:
        file = File((4, 3, 5), draw["opset"], draw["seed"])
        kind, given = draw["kind"], {"epsilon": draw["epsilon"]}
        axis = 1 if draw["axis"] is ABSENT else draw["axis"]
        tail = (4, 3, 5)[axis - 1 if axis > 0 else 2 :]
        inputs: list[Any] = []
        if kind in ("LayerNormalization", "RMSNormalization"):
            inputs, given = [file.weights(*tail)], {**given, "axis": draw["axis"]}
        elif kind in ("InstanceNormalization", "GroupNormalization"):
            inputs = [file.weights(4), file.weights(4)]
            given |= {"num_groups": 2} if kind == "GroupNormalization" else {}
        else:
            given = {"LRN": {"size": 3}, "LpNormalization": {"axis": draw["axis"]}}.get(kind, {})
        yield Case(
            "normalisations",
            described(draw),
            file.finish(file.add(kind, "x", *inputs, outputs=draw["outputs"], **given)),
        )


NORMALISING = {
    "BatchNormalization": batch_normalisations,
    "plain BatchNormalization": plain_batch_normalisations,
    "normalisations": other_normalisations,
}
