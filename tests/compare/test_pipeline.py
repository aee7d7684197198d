"""Queries in flight: ordered, bounded, and ended by the first error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from reaas.schemes._pipeline import ordered_map


def test_results_come_in_the_order_of_the_items() -> None:
    def late_first(item: int) -> int:
        time.sleep(0.02 if item % 3 == 0 else 0.0)
        return item * item

    assert list(ordered_map(late_first, range(20), 4)) == [item * item for item in range(20)]


def test_items_are_drawn_only_as_calls_finish() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(100):
            drawn += 1
            yield item

    results = ordered_map(lambda item: item, items(), 3)
    assert next(results) == 0
    assert drawn == 3
    assert next(results) == 1
    assert drawn == 4


def test_the_first_error_ends_the_iteration() -> None:
    called = []
    lock = threading.Lock()

    def fail_at_five(item: int) -> int:
        with lock:
            called.append(item)
        if item == 5:
            raise RuntimeError("service gone")
        return item

    with pytest.raises(RuntimeError, match="service gone"):
        list(ordered_map(fail_at_five, range(1000), 3))
    assert len(called) < 20


def test_at_least_one_call_is_needed() -> None:
    with pytest.raises(ValueError, match="in_flight is 0"):
        list(ordered_map(str, [1], 0))
