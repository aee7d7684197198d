"""The grid: every family of files by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.differential.file import Case
from tests.differential.fused import FUSED
from tests.differential.graphs import GRAPHS
from tests.differential.grid.arithmetic import ARITHMETIC
from tests.differential.grid.composed import COMPOSED
from tests.differential.grid.functions import FUNCTIONS
from tests.differential.grid.integers import INTEGERS
from tests.differential.grid.moving import MOVING
from tests.differential.grid.normalising import NORMALISING
from tests.differential.grid.reductions import REDUCTIONS
from tests.differential.grid.rescaling import RESCALING
from tests.differential.grid.scales import SCALES
from tests.differential.grid.shapes import SHAPES
from tests.differential.grid.window import WINDOWS
from tests.differential.hostile import HOSTILE
from tests.differential.mutated import MUTATED

FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    **WINDOWS,
    **RESCALING,
    **MOVING,
    **ARITHMETIC,
    **FUNCTIONS,
    **NORMALISING,
    **COMPOSED,
    **REDUCTIONS,
    **SHAPES,
    **INTEGERS,
    **SCALES,
    **GRAPHS,
    **FUSED,
    **HOSTILE,
    **MUTATED,
}

__all__ = ["FAMILIES"]
