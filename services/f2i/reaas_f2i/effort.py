"""What a job is expected to take, before it runs: seconds, bytes, and whom it may pass."""

from __future__ import annotations

import math
from dataclasses import replace

from reaas_bounds import MarginMethod, Method, Network, condensed
from reaas_runtime import DomainError, Effort, Lane, Reason

from reaas_f2i.sizes import SizedEncoder
from reaas_f2i.targets import Ball, Question

_CLOSED = (Method.LIPSCHITZ, MarginMethod.LIPSCHITZ)
_INTERVALS = (Method.IBP, MarginMethod.IBP)
_ENVELOPES = (Method.LOCAL, MarginMethod.ENVELOPE)
# Of a search about which nothing is known yet: seconds of a step, and steps. What it really took
# is counted afterwards.
_STEP_S, _STEPS = 0.5, 4
# Closed forms measure sums of every activation: seconds for each of its entries, about.
_SECONDS_PER_ENTRY = 3e-8
_LEAST_S = 0.005
# Below it a job is quick: others may wait for it without noticing.
QUICK_S = 0.1
# Bytes of a float64, and how many arrays of the largest kind each bound holds at once: measured as
# the peak of one image (decision 0018), with room.
_FLOAT64 = 8
_ROWS_AT_ONCE = 512
_CROWN_COPIES, _ENVELOPE_COPIES = 12, 4
_IMAGE_COPIES, _CLOSED_COPIES = 24, 3


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
    memory = images * sum(sizes) * _IMAGE_COPIES
    if method in _INTERVALS:
        return Effort(images * step, memory * _FLOAT64, Lane.SHORT)
    rows = min(question.target.rows or encoder.network.feature_dim, _ROWS_AT_ONCE)
    copies = _ENVELOPE_COPIES if method in _ENVELOPES else _CROWN_COPIES
    memory += rows * max(sizes) * copies
    return Effort(images * step * _STEPS, memory * _FLOAT64, Lane.LONG)


def within_memory(question: Question, encoder: SizedEncoder, budget: float) -> Question:
    """`question` (one job) if its bound fits into `budget` bytes; AUTO becomes what does.

    Raises DomainError BATCH_TOO_LARGE where the method asked for does not.
    """
    if effort_of(question, encoder).memory <= budget:
        return question
    target = question.target
    if target.method in (Method.AUTO, MarginMethod.AUTO):
        if isinstance(target, Ball):
            less = replace(question, target=replace(target, method=Method.LOCAL))
        else:
            less = replace(question, target=replace(target, method=MarginMethod.ENVELOPE))
        if effort_of(less, encoder).memory <= budget:
            return less
    height, width = question.images.shape[1:3]
    needs = effort_of(question, encoder).memory
    raise DomainError(
        Reason.BATCH_TOO_LARGE,
        f"method {target.method.name} takes about {needs >> 20} MiB for one image of "
        f"{height}x{width} here, the service has {int(budget) >> 20}: ask for LIPSCHITZ, or with "
        "fewer rows",
        field="method",
        got=f"{needs >> 20} MiB",
        limit=f"{int(budget) >> 20} MiB",
    )


def building_effort(pixels: int) -> Effort:
    """Of the constants of a new image size with so many numbers."""
    return Effort(1.0, pixels * _IMAGE_COPIES * _FLOAT64, Lane.SHORT)


def decoding_effort(size: int) -> Effort:
    """Of decoding and checking a message of `size` bytes."""
    seconds = 0.001 + size * 5e-9
    return Effort(seconds, 8 * size, Lane.QUICK if seconds <= QUICK_S else Lane.SHORT)


def _sizes(network: Network) -> list[int]:
    """Entries of every activation that rows are pulled back through."""
    small = condensed(network)
    graph = (small.network if small else network).folded
    return [math.prod(node.shape) for node in graph.nodes]
