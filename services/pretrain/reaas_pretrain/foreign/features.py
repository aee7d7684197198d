"""The output of a foreign graph: which value it is, and how it becomes `feature [N, d]`."""

from __future__ import annotations

import math

import onnx
from onnx import helper
from reaas_bounds import BoundsError, UnsupportedOperatorError
from reaas_bounds.graph.lowering import traced

from reaas_pretrain.foreign.editing import float_value, free_name, names, prune
from reaas_pretrain.foreign.wishes import Wishes
from reaas_pretrain.versions import PublishError

_SHOWN = 8  # Names in a message.


def choose_output(graph: onnx.GraphProto, wishes: Wishes) -> str:
    """The value that is the feature, made the graph's only output; what only others need goes."""
    stated = [value.name for value in graph.output]
    if wishes.output is not None:
        made = {name for node in graph.node for name in node.output if name}
        if wishes.output not in made:
            near = sorted(n for n in made if wishes.output.lower() in n.lower()) or stated
            raise PublishError(
                f"the file has no value {wishes.output!r}; there are: {_listed(near)}"
            )
        chosen = wishes.output
    elif len(stated) == 1:
        [chosen] = stated
    else:
        raise PublishError(
            f"the file has {len(stated)} outputs: say which one is the feature with --output:"
            f" {_listed(stated)}"
        )
    if chosen not in {name for node in graph.node for name in node.output}:
        raise PublishError(f"output {chosen!r} is not computed from the images")
    declare(graph, chosen, None)
    prune(graph)
    return chosen


def declare(graph: onnx.GraphProto, name: str, dim: int | None) -> None:
    """`name` is the graph's output, of `dim` numbers an image (None: not known yet)."""
    del graph.output[:]
    graph.output.append(float_value(name, ["N", "d" if dim is None else dim]))


def flatten_output(model: onnx.ModelProto, name: str, wishes: Wishes) -> tuple[str, int, bool]:
    """The feature's name, its length d, and whether a Flatten had to be added for it.

    Raises `PublishError` for a feature map that nobody asked to flatten; BoundsError as the engine.
    """
    trace = traced(model.SerializeToString())
    if name in trace.index:
        shape = trace.graph.nodes[trace.index[name]].shape
    elif name in trace.units:
        shape = trace.graph.nodes[trace.units[name]].shape
    else:
        raise PublishError(f"output {name!r} does not depend on the images")
    dim = math.prod(shape)
    if len(shape) == 1:
        return name, dim, False
    if dim != max(shape) and not wishes.flatten:
        raise PublishError(
            f"output {name!r} is a feature map {['N', *shape]}, a feature is [N, d]: pool it in the"
            " model, choose a later value with --output, or take all of its entries with --flatten"
        )
    graph = model.graph
    feature = free_name(graph, "feature")
    node = helper.make_node("Flatten", [name], [feature], name=f"{feature}_flatten", axis=1)
    graph.node.append(node)
    return feature, dim, True


def advice(model: onnx.ModelProto, error: BoundsError) -> str:
    """What could be done about a node that the engine refuses, as far as it can be told."""
    if not isinstance(error, UnsupportedOperatorError):
        return ""
    nodes = list(model.graph.node)
    place = next((k for k, n in enumerate(nodes) if error.node in (n.name, *n.output)), None)
    if place is None or place * 2 < len(nodes):
        return ""
    before = [name for name in nodes[place].input if name in names(model.graph)]
    computed = {name for node in nodes[:place] for name in node.output}
    found = [name for name in before if name in computed]
    if not found:
        return ""
    return f"; to leave out it and what follows: --output {found[0]}"


def _listed(found: list[str]) -> str:
    rest = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + rest
