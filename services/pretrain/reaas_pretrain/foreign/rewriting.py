"""A foreign file, step by step made into the graph that is served; each step is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from reaas_bounds import BoundsError

from reaas_pretrain.foreign.batch import free_batch
from reaas_pretrain.foreign.editing import rename
from reaas_pretrain.foreign.features import advice, choose_output, declare, flatten_output
from reaas_pretrain.foreign.images import ForeignInput, find_input, replace_input
from reaas_pretrain.foreign.opset import readable
from reaas_pretrain.foreign.original import OriginalEncoder
from reaas_pretrain.foreign.reading import read_model
from reaas_pretrain.foreign.wishes import Wishes
from reaas_pretrain.versions import PublishError

INPUT, FEATURE = "input", "feature"
_LEVELS = 255  # Of pixels of 8 bits.


@dataclass(frozen=True, eq=False)
class Rewritten:
    """What is served for a file. `steps`: what was changed, in words; none, the file is as it was.

    `original` gives the file's own features [n, d] of images [n, C, H, W] in [0, 1]; of multiples
    of 1 / `levels` only, where it reads pixels of 8 bits.
    """

    onnx_bytes: bytes
    steps: tuple[str, ...]
    original: Callable[[NDArray[np.float32]], NDArray[np.generic]]
    levels: int | None


def rewrite(file: Path, wishes: Wishes) -> Rewritten:
    """The file as `input` float32 [N, C, H, W] in [0, 1] -> `feature` float32 [N, d].

    A file that is that already is left as it is, byte for byte. `PublishError` says what stands
    against it and what to do. Nothing here is believed: whoever publishes the result compares it
    with `original`.
    """
    foreign = read_model(file)
    own = foreign.model
    images = find_input(own.graph, wishes)
    model = onnx.ModelProto()
    model.CopyFrom(own)
    output = choose_output(model.graph, wishes)
    # Before this version weights had to be among the inputs, and they were left out of them.
    model.ir_version = max(model.ir_version, 4)
    steps = [f"weights in {name}: put into the file" for name in foreign.beside]
    steps += _left_out(own, model, output)
    steps += _images(model.graph, images, wishes)
    model, converted = readable(file, model)
    steps += converted
    steps += _feature(file, model, wishes)
    steps += _stated(own, model)
    original = OriginalEncoder(own, images, output, wishes)
    rewritten = model.SerializeToString(deterministic=True) if steps else foreign.onnx_bytes
    return Rewritten(rewritten, tuple(steps), original, _LEVELS if images.integers else None)


def _left_out(own: onnx.ModelProto, model: onnx.ModelProto, output: str) -> list[str]:
    count = len(own.graph.node) - len(model.graph.node)
    return [f"{count} nodes that {output!r} doesn't need: left out"] if count else []


def _images(graph: onnx.GraphProto, images: ForeignInput, wishes: Wishes) -> list[str]:
    """Makes the input one of [0, 1] images [N, C, H, W] called `input`."""
    steps = []
    if images.batch is not None:
        count = free_batch(graph, images.batch)
        steps.append(f"batch of {images.batch}: free now ({count} shapes changed)")
    steps += replace_input(graph, images, wishes)
    if images.name != INPUT:
        steps.append(f"input {images.name!r}: called {INPUT!r}")
    rename(graph, graph.input[0].name, INPUT)
    return steps


def _feature(file: Path, model: onnx.ModelProto, wishes: Wishes) -> list[str]:
    """Makes the output a vector [N, d] called `feature`."""
    steps = []
    try:
        name, dim, flattened = flatten_output(model, model.graph.output[0].name, wishes)
    except BoundsError as error:
        what = f"{file} can't be certified: {error}"
        raise PublishError(what + advice(model, error)) from error
    if flattened:
        steps.append("feature map: flattened to [N, d]")
    elif name != FEATURE:
        steps.append(f"output {name!r}: called {FEATURE!r}")
    rename(model.graph, name, FEATURE)
    declare(model.graph, FEATURE, dim)
    return steps


def _stated(own: onnx.ModelProto, model: onnx.ModelProto) -> list[str]:
    """Whether the file states its output as it is."""
    if len(own.graph.output) == 1:
        dims = own.graph.output[0].type.tensor_type.shape.dim
        wanted = model.graph.output[0].type.tensor_type.shape.dim
        if len(dims) == 2 and not dims[0].dim_value and dims[1] == wanted[1]:
            return []
    dim = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return [f"output: stated as [N, {dim}]"]
