"""What a job is expected to take, before it runs: seconds, bytes, and whom it may pass."""

from __future__ import annotations

import math

from reaas_bounds import MarginMethod, Method, Network
from reaas_runtime import Effort, Lane

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
# Bytes of a float64, and how many arrays of the largest kind a bound holds at once. Measured as
# the peak of one image (tests/f2i/test_effort.py), with room.
_FLOAT64 = 8
_ROW_COPIES = 12
_ENTRY_COPIES = 24
_ROWS_AT_ONCE = 512


def effort_of(question: Question, encoder: SizedEncoder) -> Effort:
    """Of one job of `question`."""
    method, images = question.target.method, len(question.images)
    network = encoder.network
    entries = sum(math.prod(node.shape) for node in network.folded.nodes)
    memory = images * entries * _ENTRY_COPIES * _FLOAT64
    if method in _CLOSED:
        seconds = _LEAST_S + images * entries * _SECONDS_PER_ENTRY
        return Effort(seconds, memory, Lane.QUICK if seconds <= QUICK_S else Lane.SHORT)
    step = encoder.step_seconds.get(question.target.slowest, _STEP_S)
    if method in _INTERVALS:
        return Effort(images * step, memory, Lane.SHORT)
    rows = min(question.target.rows or network.feature_dim, _ROWS_AT_ONCE)
    memory += rows * _widest(network) * _ROW_COPIES * _FLOAT64
    return Effort(images * step * _STEPS, memory, Lane.LONG)


def building_effort(pixels: int) -> Effort:
    """Of the constants of a new image size with so many numbers."""
    return Effort(1.0, pixels * _ENTRY_COPIES * _FLOAT64 * 2, Lane.SHORT)


def decoding_effort(size: int) -> Effort:
    """Of decoding and checking a message of `size` bytes."""
    seconds = 0.001 + size * 5e-9
    return Effort(seconds, 8 * size, Lane.QUICK if seconds <= QUICK_S else Lane.SHORT)


def _widest(network: Network) -> int:
    return max(math.prod(node.shape) for node in network.folded.nodes)
