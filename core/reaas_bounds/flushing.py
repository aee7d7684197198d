"""What float32 loses below its smallest normal number, and where it would overflow.

Relative rounding (see `summation`) says nothing of results below 2^-126: they keep fewer digits,
or become 0 where a kernel or a thread flushes denormal numbers, on reading and on writing. With
weights of 1e-30 and 1e30 in one encoder that is the whole feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Sum, sources
from reaas_bounds.graph.signatures import LARGEST_FACTOR
from reaas_bounds.summation import EXTRA_ADDITIONS, FACTORS

# What one operation may lose: a number below 2^-126 in what it reads or gives. Times the largest
# factor that may be multiplied to it afterwards, and 4 for everything of second order.
LOST = 2.0**-126 * LARGEST_FACTOR * 4
# Sums of exact values stay below this: float32 values, whose own errors are a small share of such
# sums, then stay far below its largest number, 2^128.
_LARGEST = 2.0**120
# Weights that are multiplied into each other, before any image is.
_LARGEST_WEIGHTS = 2.0**126

Line = tuple[float, float]
"""``slope ||x||_2 + offset``."""


@dataclass(frozen=True)
class Flushing:
    """Constants of the executed nodes.

    Attributes:
        lost: per node the norm of what its operations lose at an image x, as a line in ||x||.
        per_error: per node what it loses more for each unit of error in what it reads.
        safe_norm: no float32 operation overflows for images of at most this norm.
    """

    lost: list[Line]
    per_error: list[float]
    safe_norm: float


NOTHING_KNOWN = Flushing([], [], 0.0)


def flushing(
    graph: Graph,
    *,
    sizes: Sequence[Line],
    gain: Sequence[float],
    absolute: Sequence[float],
    bias: Sequence[float],
) -> Flushing:
    """What each node of ``graph`` loses to underflow; deterministic.

    ``sizes`` bound the norm of each node's value; gain, absolute and bias are the norms of its map,
    of its absolute weights and of its bias (see `Propagation`).

    Theorem: let every operation give ``(a op b)(1 + d) + e`` of operands that are read as 0 below
    2^-126, |e| <= 2^-126 =: U. An entry of ``W h + b`` with N operations then loses at most
    ``U (N + sum |w_i| + sum |h_i|)``: a loss of its own for each, U times the weight for each h
    that is read as 0, U times h for each weight. The 2-norms of these over the outputs are at most
    ``N sqrt(m)``, ``|| |W| || sqrt(n)`` and ``sqrt(m n) ||h||``. Where a runtime multiplies a map
    into the one before it, a weight's loss meets what that one reads, and its products: at most
    ``(|| |W| || + sqrt(m n)) (||h|| + what the map before it reaches) + ||b||`` with ||h|| of that
    map's input. Factors up to 2^30 may be multiplied to any of it. To first order; all else is
    less than that again.
    """
    lost: list[Line] = []
    reached: list[Line] = []
    per_error: list[float] = []
    weights: list[float] = []  # product of the absolute weights of a chain of maps
    safe = math.inf
    for index, node in enumerate(graph.nodes):
        root = math.sqrt(math.prod(node.shape))
        reach: Line = (0.0, 0.0)
        chained, share = 1.0, 0.0
        match node:
            case Input():
                own: Line = (0.0, root)
            case Affine():
                entries = math.sqrt(math.prod(graph.nodes[node.source].shape))
                share = absolute[index] + root * entries
                before = _plus(sizes[node.source], reached[node.source])
                reach = _plus(_scaled(share, before), (0.0, bias[index]))
                count = node.linear.terms + EXTRA_ADDITIONS + FACTORS
                own = _plus(reach, (0.0, count * root + absolute[index] * entries))
                chained = absolute[index] * max(1.0, weights[node.source])
                sums = _plus(_scaled(absolute[index], sizes[node.source]), (0.0, bias[index]))
                safe = min(safe, _room(sums), 0.0 if chained > _LARGEST_WEIGHTS else math.inf)
            case Activation():
                share = 1.0
                own = _plus(sizes[node.source], (0.0, root * (4 + gain[index])))
            case Sum():
                own = (0.0, 3 * root)
                safe = min(safe, _room(_plus(*(sizes[source] for source in sources(node)))))
            case Joint():  # what it loses is its own affair
                own = (0.0, 0.0)
                safe = min(safe, *(_room(sizes[k]) for k in (index, *node.inputs)))
        lost.append(_scaled(LOST, own))
        per_error.append(LOST * share)
        reached.append(reach)
        weights.append(chained)
    return Flushing(lost, per_error, safe)


def _plus(left: Line, right: Line) -> Line:
    return left[0] + right[0], left[1] + right[1]


def _scaled(factor: float, line: Line) -> Line:
    return factor * line[0], factor * line[1]


def _room(size: Line) -> float:
    """Norm of an image up to which ``size`` stays below the largest sum."""
    slope, offset = size
    if not offset < _LARGEST:
        return 0.0
    return (_LARGEST - offset) / slope if slope > 0 else math.inf
