"""``Resize`` and its elder ``Upsample``: every mode, coordinate, rounding, size, axis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.differential.file import ABSENT, Case, File, floats, integers
from tests.differential.space import Draw, described, draws, mostly

SHAPES = ((2, 6, 6), (1, 5, 8), (3, 4, 7), (1, 1, 5))
WHERE = mostly(
    ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", ABSENT],
    ["tf_half_pixel_for_nn", "tf_crop_and_resize", "half_pixel_symmetric"],
)
NEAREST = (ABSENT, "floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
FACTORS = (
    (2.0, 2.0),
    (0.5, 1.5),
    (1.0, 1.0),
    (0.3, 0.7),
    (1 / 3, 3.0),
    (2.5, 1.2),
    (1.7, 0.9),
    (0.1, 2.0),
)
SIZES = ((12, 12), (3, 10), (1, 1), (5, 7), (6, 8), (9, 2), (1, 6))
AXES = mostly(
    [ABSENT, [2, 3], [3, 2], [-2, -1], [-1, -2], [-1], [2], [1, 2, 3]],
    [[0, 1, 2, 3], [3, -1], [4], []],
)


def factors() -> Iterator[Case]:
    """By scales: a size that is rounded down."""
    chosen = draws(
        "Resize by scales",
        600,
        shape=SHAPES,
        mode=mostly(["nearest", "linear", "linear", ABSENT], ["cubic"]),
        where=WHERE,
        nearest_mode=NEAREST,
        scales=FACTORS,
        axes=AXES,
        roi=mostly([0, 1], [2]),
        exclude_outside=mostly([ABSENT, 0], [1]),
        antialias=mostly([ABSENT, 0], [1]),
        opset=_OPSETS,
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        scales = _of_axes(draw, draw["scales"], 1.0)
        if draw["opset"] < 11:
            made = file.add("Resize", "x", floats(*scales), mode=draw["mode"])
        else:
            made = file.add("Resize", "x", _roi(draw), floats(*scales), **_attributes(draw))
        yield Case("Resize by scales", described(draw), file.finish(made))


def sizes() -> Iterator[Case]:
    """By sizes: a scale that is rounded to float32."""
    chosen = draws(
        "Resize to sizes",
        700,
        shape=SHAPES,
        mode=mostly(["nearest", "linear", "linear"], ["cubic"]),
        where=WHERE,
        nearest_mode=NEAREST,
        sizes=SIZES,
        axes=AXES,
        roi=(0, 1),
        exclude_outside=(ABSENT, ABSENT, 0),
        policy=mostly([ABSENT, "stretch"], ["not_larger", "not_smaller"]),
        both=mostly([False], [True]),
        opset=_OPSETS[1:],
        antialias=(ABSENT,),
        extrapolation=(ABSENT, 0.5),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        full = [file.random.integers(1, 2), draw["shape"][0], *draw["sizes"]]
        wanted = integers(*(int(v) for v in _of_axes(draw, full[2:], None, full)))
        scales = floats(1, 1, 2, 2) if draw["both"] else None
        made = file.add("Resize", "x", _roi(draw), scales, wanted, **_attributes(draw))
        yield Case("Resize to sizes", described(draw), file.finish(made))


def plain() -> Iterator[Case]:
    """What exporters write: correct files, most of which must be read."""
    chosen = draws(
        "Resize as exported",
        400,
        shape=((2, 6, 6), (1, 5, 8)),
        mode=("nearest", "linear"),
        where=("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
        nearest_mode=("floor", ABSENT),
        target=((2.0, 2.0), (0.5, 0.5), (12, 12), (3, 10), (7, 5)),
        axes=(ABSENT, [2, 3], [-2, -1]),
        opset=(11, 13, 18, 19, 21, 25),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        target, inputs = draw["target"], list[Any]([None, None, None])
        by_size = isinstance(target[0], int)
        some = draw["axes"] is not ABSENT
        if by_size:
            inputs[2] = integers(*target) if some else _computed(file, draw, target)
        else:
            inputs[1] = floats(*target) if some else floats(1, 1, *target)
        made = file.add("Resize", "x", *inputs[: 3 if by_size else 2], **_attributes(draw))
        yield Case("Resize as exported", described(draw), file.finish(made))


def _computed(file: File, draw: Draw, target: Any) -> Any:
    """All four sizes, of which the batch is what it is; or 1, which is wrong."""
    if draw["seed"] % 4 == 0:
        return integers(1, draw["shape"][0], *target)
    batch = file.add("Gather", file.add("Shape", "x"), integers(0), axis=0)
    return file.add("Concat", batch, integers(draw["shape"][0], *target), axis=0)


def upsample() -> Iterator[Case]:
    """``Upsample``: scales as an attribute, then as an input."""
    chosen = draws(
        "Upsample",
        120,
        shape=SHAPES,
        mode=("nearest", "linear", ABSENT),
        opset=(7, 8, 9, 10, 13),
        scales=((2.0, 2.0), (1.0, 1.0), (1.5, 3.0), (0.5, 2.0)),
        as_input=(True, False),
    )
    for draw in chosen:
        file = File(draw["shape"], draw["opset"], draw["seed"])
        full = [1.0, 1.0, *draw["scales"]]
        given: dict[str, Any] = {} if draw["as_input"] else {"scales": full}
        inputs = [floats(*full)] if draw["as_input"] else []
        made = file.add("Upsample", "x", *inputs, mode=draw["mode"], **given)
        yield Case("Upsample", described(draw), file.finish(made))


_OPSETS = (10, 11, 12, 13, 17, 18, 19, 20, 22, 24, 25, 26)


def _attributes(draw: Draw) -> dict[str, Any]:
    names = {
        "mode": "mode",
        "where": "coordinate_transformation_mode",
        "nearest_mode": "nearest_mode",
        "axes": "axes",
        "exclude_outside": "exclude_outside",
        "antialias": "antialias",
        "policy": "keep_aspect_ratio_policy",
        "extrapolation": "extrapolation_value",
    }
    return {name: draw[key] for key, name in names.items() if key in draw}


def _of_axes(draw: Draw, last: Any, rest: Any, full: list[Any] | None = None) -> list[Any]:
    """Values for the stated axes, of which the last two have their own."""
    axes = draw["axes"]
    known = full or [rest, rest, *last]
    if axes is ABSENT:
        return known
    return [known[axis] if -4 <= axis < 4 else 2 for axis in axes]


def _roi(draw: Draw) -> Any:
    return (None, floats(), floats(0, 0, 0.2, 0.1, 1, 1, 0.9, 0.8))[draw["roi"]]


RESCALING = {
    "Resize by scales": factors,
    "Resize to sizes": sizes,
    "Resize as exported": plain,
    "Upsample": upsample,
}
