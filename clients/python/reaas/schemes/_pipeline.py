"""Overlap of client-side work and queries in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], in_flight: int
) -> Iterator[Result]:
    """`map` over a thread pool with at most `in_flight` calls at once; results in order.

    `items` is advanced in the caller's thread, one at a time, while earlier calls are on their way:
    memory stays bounded, and a random stream behind `items` is consumed in one fixed order.
    The first exception ends the iteration; calls not yet started are dropped.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight is {in_flight}; at least 1 call must be allowed")
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(in_flight, thread_name_prefix="reaas-query") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= in_flight:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
