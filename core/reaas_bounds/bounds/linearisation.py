"""Rows of the network with every activation replaced by its tangent at one image.

They do not depend on the radius.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reaas_bounds.bounds.centre import Centre
from reaas_bounds.graph.backward import pull_back_patches
from reaas_bounds.graph.nodes import Activation, Graph
from reaas_bounds.graph.patches import Patches, spread_out, unit_patches
from reaas_bounds.graph.rows import group_size

# Entries of the rows of the feature at activations, at most: 256 MiB.
_MOST_ENTRIES = 2**25


@dataclass(frozen=True, eq=False)
class Pulled:
    """m rows of the linearisation, last in memory.

    Attributes:
        outputs: per activation the rows at its output, [numel or the wanted entries, m].
        image: the rows at the image, [C H W, m].
    """

    outputs: dict[int, Tensor]
    image: Tensor

    @classmethod
    def join(cls, parts: list[Pulled]) -> Pulled:
        """Groups of rows side by side."""
        outputs = {k: torch.cat([part.outputs[k] for part in parts], 1) for k in parts[0].outputs}
        return cls(outputs, torch.cat([part.image for part in parts], 1))


@dataclass(frozen=True, eq=False)
class Linearisation:
    """Tangents at one image, and the rows of the feature.

    Attributes:
        slopes: per activation its derivative, [*shape].
        features: rows of all d coordinates; those at activations only if they are not too many.
    """

    graph: Graph
    slopes: dict[int, Tensor]
    features: Pulled

    @classmethod
    def of(cls, centre: Centre) -> Linearisation:
        """At the one image of ``centre``, in its precision."""
        graph, feature = centre.graph, centre.values[-1]
        slopes = {
            k: node.function.derivative(centre.values[node.source])[0]
            for k, node in enumerate(graph.nodes)
            if isinstance(node, Activation)
        }
        tangents = cls(graph, slopes, Pulled({}, feature[:0]))
        neurons = torch.arange(feature.numel(), device=feature.device)
        rows, patches = unit_patches(neurons, graph.nodes[-1].shape, feature.dtype)
        many = feature.numel() * sum(slope.numel() for slope in slopes.values()) > _MOST_ENTRIES
        found = tangents.pulled(len(graph.nodes) - 1, rows, patches, {} if many else None)
        return replace(tangents, features=found)

    def single(self, graph: Graph) -> Linearisation:
        """The same in float32, for the float32 ``graph``."""
        slopes = {k: slope.float() for k, slope in self.slopes.items()}
        outputs = {k: rows.float() for k, rows in self.features.outputs.items()}
        return Linearisation(graph, slopes, Pulled(outputs, self.features.image.float()))

    def pulled(
        self,
        index: int,
        rows: Tensor,
        patches: Patches | None,
        wanted: dict[int, Tensor] | None = None,
    ) -> Pulled:
        """Rows [m, *shape or patch] of node ``index``.

        Of activation k only the entries ``wanted[k]``, or none if it is not there.
        """
        size = group_size(self.graph)
        parts = []
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            parts.append(self._group(index, rows[part], patches and patches.part(part), wanted))
        return Pulled.join(parts)

    def _group(
        self, index: int, rows: Tensor, patches: Patches | None, wanted: dict[int, Tensor] | None
    ) -> Pulled:
        outputs: dict[int, Tensor] = {}

        def through(current: int, values: Tensor, place: Patches | None) -> Tensor:
            if wanted is None:
                outputs[current] = _flat(values, place)
            elif current in wanted:
                outputs[current] = _flat(values, place)[wanted[current]]
            slope = self.slopes[current]
            if place is None:
                return values * slope
            return (values.movedim(0, -1) * place.gather(slope)).movedim(-1, 0)

        image = pull_back_patches(self.graph, index, rows, patches, through)
        return Pulled(outputs, _flat(*image))


def _flat(rows: Tensor, patches: Patches | None) -> Tensor:
    """Rows [m, ...] as [numel, m]."""
    return spread_out(rows, patches).movedim(0, -1).flatten(0, -2)
