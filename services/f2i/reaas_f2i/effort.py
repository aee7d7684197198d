"""What a job is expected to take, before it runs: seconds, bytes, and whom it may pass."""

from __future__ import annotations

import math
from dataclasses import replace

from reaas_bounds import MarginMethod, Method, Network, condensed
from reaas_runtime import DomainError, Effort, Lane, Reason

from reaas_f2i.sizes import SizedEncoder
from reaas_f2i.targets import Question

_CLOSED = (Method.LIPSCHITZ, MarginMethod.LIPSCHITZ)
_INTERVALS = (Method.IBP, MarginMethod.IBP)
# Of a search about which nothing is known yet: seconds of a step, and steps. What it really took
# is counted afterwards.
_STEP_S, _STEPS = 0.5, 4
# Closed forms measure sums of every activation: seconds for each of its entries, about.
_SECONDS_PER_ENTRY = 3e-8
_LEAST_S = 0.005
# Below it a job is quick: others may wait for it without noticing.
QUICK_S = 0.1
# Bytes of a float64, and how many arrays of the largest kind each bound holds at once: as seen from
# the peak of a process, with room (decision 0018).
_FLOAT64 = 8
_ROWS_AT_ONCE = 512
_CROWN_COPIES, _ENVELOPE_COPIES = 12, 4
_IMAGE_COPIES, _CLOSED_COPIES = 10, 3
# What AUTO becomes where it does not fit, the best first.
_LESS: dict[Method | MarginMethod, tuple[Method | MarginMethod, ...]] = {
    **dict.fromkeys((*Method, *MarginMethod), ()),
    Method.AUTO: (Method.LOCAL, Method.LIPSCHITZ),
    MarginMethod.AUTO: (MarginMethod.ENVELOPE, MarginMethod.LIPSCHITZ),
}


def effort_of(question: Question, encoder: SizedEncoder) -> Effort:
    """Of one job of `question`."""
    method, images = question.target.method, len(question.images)
    sizes = _sizes(encoder.network)
    if method in _CLOSED:
        entries = images * (sum(sizes) + question.images[0].size)
        seconds, memory = _LEAST_S + entries * _SECONDS_PER_ENTRY, entries * _CLOSED_COPIES
        lane = Lane.QUICK if seconds <= QUICK_S else Lane.SHORT
        return Effort(seconds, memory * _FLOAT64, lane)
    step = encoder.step_seconds.get(question.target.slowest, _STEP_S)
    memory = sum(sizes) * _IMAGE_COPIES  # images are worked on one after the other
    if method in _INTERVALS:
        return Effort(images * step, memory * _FLOAT64, Lane.SHORT)
    memory += _rows(question, encoder.network) * max(sizes)
    return Effort(images * step * _STEPS, memory * _FLOAT64, Lane.LONG)


def within_memory(question: Question, encoder: SizedEncoder, budget: float) -> Question:
    """`question` (one job) if its bound fits into `budget` bytes; AUTO becomes what does.

    Raises DomainError BATCH_TOO_LARGE where the search asked for does not.
    """
    effort, target = effort_of(question, encoder), question.target
    if effort.memory <= budget or effort.lane is not Lane.LONG:
        return question
    for less in _LESS[target.method]:
        other = replace(question, target=replace(target, method=less))  # type: ignore[arg-type]
        if effort_of(other, encoder).memory <= budget or less in _CLOSED:
            return other
    height, width = question.images.shape[1:3]
    raise DomainError(
        Reason.BATCH_TOO_LARGE,
        f"method {target.method.name} takes about {effort.memory >> 20} MiB for one image of "
        f"{height}x{width} here, the service has {int(budget) >> 20}: ask for LIPSCHITZ, or with "
        "fewer rows",
        field="method",
        got=f"{effort.memory >> 20} MiB",
        limit=f"{int(budget) >> 20} MiB",
    )


def building_effort(pixels: int) -> Effort:
    """Of the constants of a new image size with so many numbers."""
    return Effort(1.0, pixels * _IMAGE_COPIES * _FLOAT64, Lane.SHORT)


def decoding_effort(size: int) -> Effort:
    """Of decoding and checking a message of `size` bytes."""
    seconds = 0.001 + size * 5e-9
    return Effort(seconds, 8 * size, Lane.QUICK if seconds <= QUICK_S else Lane.SHORT)


def _rows(question: Question, network: Network) -> int:
    """Rows that are there at once, times copies of them."""
    match question.target.method:
        case MarginMethod.ENVELOPE:
            return _ENVELOPE_COPIES  # one row after the other
        case Method.LOCAL:
            return network.feature_dim * _ENVELOPE_COPIES
        case _:
            rows = question.target.rows or network.feature_dim
            return min(rows, _ROWS_AT_ONCE) * _CROWN_COPIES


def _sizes(network: Network) -> list[int]:
    """Entries of every activation that rows are pulled back through."""
    small = condensed(network)
    graph = (small.network if small else network).folded
    return [math.prod(node.shape) for node in graph.nodes]
