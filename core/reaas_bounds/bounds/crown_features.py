"""CROWN's rows of the feature: those of the linearisation, plus what bent neurons change.

Near an image few neurons can leave the line that they are on. What they change has no more
dimensions than there are of them, so their rows are pulled back instead of the feature's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.bounds.crown_rows import Lines, RowBounds, row_bounds
from reaas_bounds.bounds.linearisation import Linearisation, Pulled
from reaas_bounds.graph.nodes import Graph, sources
from reaas_bounds.graph.patches import unit_patches
from reaas_bounds.graph.rows import group_size

# From so many changed neurons of the last activation on, for each coordinate of the feature, all
# rows through all lines cost less (measured).
_FEW = 0.5


def feature_rows(linearisation: Linearisation, lines: dict[int, Lines]) -> RowBounds:
    """Bounds of all d coordinates of the feature of one image; deterministic.

    Theorem: the row of a coordinate after the lines is the row after the tangents plus, for each
    activation from the last to the first, the row after the tangents of what its lines change,
    ``p (line - tangent)``, p the row that arrives. That is zero for neurons on one line.
    """
    rows, changed = linearisation.features, _changed(linearisation, lines)
    if changed and (not rows.outputs or len(changed[max(changed)]) > _FEW * rows.image.shape[1]):
        return _in_groups(linearisation.graph, lines)
    image = _signed(rows.image)  # [C H W, 2 d]
    arriving = {k: _signed(rows.outputs[k][where]) for k, where in changed.items()}  # [s, 2 d]
    offset = image.new_zeros(image.shape[1])
    for current in sorted(changed, reverse=True):
        where, met = changed[current], arriving[current]
        chosen, negative = lines[current].at(where), met.clamp_max(0.0)
        offset += chosen.offset @ met + chosen.more_offset @ negative
        slope = chosen.slope - linearisation.slopes[current].flatten()[where]
        change = met * slope[:, None] + negative * chosen.more_slope[:, None]  # [s, 2 d]
        below = {k: entries for k, entries in changed.items() if k < current}
        found = _spread(linearisation, current, where, change, below)
        for k, row in found.outputs.items():
            arriving[k] += row
        image += found.image
    return RowBounds.of(offset, torch.linalg.vector_norm(image, dim=0))


def _signed(rows: Tensor) -> Tensor:
    """Rows and their negatives, [k, 2 m]."""
    return torch.cat([rows, -rows], 1)


def _changed(linearisation: Linearisation, lines: dict[int, Lines]) -> dict[int, Tensor]:
    """Per activation the flat indices of neurons that are not on their tangent alone."""
    changed = {}
    for current, found in lines.items():
        differs = found.bent | (found.slope != linearisation.slopes[current])
        changed[current] = differs.flatten().nonzero()[:, 0]
    return changed


def _spread(
    linearisation: Linearisation,
    current: int,
    where: Tensor,
    change: Tensor,
    wanted: dict[int, Tensor],
) -> Pulled:
    """Rows ``change`` [s, m] at the input of activation ``current`` after the tangents below it.

    Few neurons: their unit rows are pulled back, and combined; many: the m rows are.
    """
    node = linearisation.graph.nodes[current]
    (source,) = sources(node)
    if len(where) < change.shape[1]:
        if not len(where):
            return Pulled({}, change.new_zeros(1, 1))
        rows, patches = unit_patches(where, node.shape, change.dtype)
        basis = linearisation.pulled(source, rows, patches, wanted)
        combined = {k: part @ change for k, part in basis.outputs.items()}
        return Pulled(combined, basis.image @ change)
    full = change.new_zeros(math.prod(node.shape), change.shape[1])
    full[where] = change
    rows = full.view(*node.shape, -1).movedim(-1, 0)
    return linearisation.pulled(source, rows, None, wanted)


def _in_groups(graph: Graph, lines: dict[int, Lines]) -> RowBounds:
    """The same without the linearisation: all rows through all lines, a group at a time."""
    last = len(graph.nodes) - 1
    shape = graph.nodes[last].shape
    like = next(iter(lines.values())).slope
    neurons = torch.arange(math.prod(shape), device=like.device)
    parts = []
    for group in torch.split(neurons, max(1, group_size(graph) // 2)):
        rows, patches = unit_patches(group, shape, like.dtype)
        parts.append(row_bounds(graph, last, rows, patches, lines))
    joined = (torch.cat(values) for values in zip(*(_tuple(part) for part in parts), strict=True))
    return RowBounds(*joined)


def _tuple(bounds: RowBounds) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return bounds.lowest, bounds.below, bounds.highest, bounds.above
