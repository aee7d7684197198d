"""Whose turn it is, and what a pool holds until its threads are free."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from reaas_runtime import (
    DomainError,
    Effort,
    Lane,
    Reason,
    WorkerPool,
    available_memory,
    stop_asked,
)
from reaas_runtime.fair import FairQueue, Job


def job(client: str, cost: float = 1.0, memory: int = 0, lane: Lane = Lane.LONG) -> Job:
    return Job(client, lambda: None, cost, memory, lane)


def order(queue: FairQueue, seconds: dict[str, float] | None = None) -> list[str]:
    """Clients in the order of their jobs, one at a time; `seconds`: what they really take."""
    found = []
    while (popped := queue.pop()) is not None:
        found.append(popped.client)
        queue.ended(popped, (seconds or {}).get(popped.client, popped.cost))
    return found


def test_clients_take_turns_whatever_they_have_waiting() -> None:
    queue = FairQueue()
    for client, jobs in (("hog", 6), ("a", 2), ("b", 2)):
        for _ in range(jobs):
            queue.push(job(client))
    assert order(queue) == ["hog", "a", "b", "hog", "a", "b", "hog", "hog", "hog", "hog"]


def test_turns_are_by_cost_and_by_what_it_really_was() -> None:
    queue = FairQueue()
    for _ in range(3):
        queue.push(job("liar", 0.1))
    for _ in range(6):
        queue.push(job("honest", 1.0))
    found = order(queue, {"liar": 3.0})
    assert found[:4] == ["liar", "honest", "honest", "honest"]


def test_who_comes_back_gets_no_credit() -> None:
    queue = FairQueue()
    for _ in range(4):
        queue.push(job("steady"))
    for _ in range(3):
        popped = queue.pop()
        assert popped is not None
        queue.ended(popped, 1.0)
    for _ in range(4):
        queue.push(job("late"))
        queue.push(job("steady"))
    assert order(queue)[:4].count("late") <= 3


def test_short_jobs_pass_long_ones() -> None:
    queue = FairQueue()
    queue.push(job("a"))
    queue.push(job("b", lane=Lane.QUICK))
    assert queue.pop(Lane.QUICK) is not None
    assert queue.pop(Lane.SHORT) is None
    assert queue.pop(Lane.LONG) is not None


def test_memory_bounds_what_runs_side_by_side() -> None:
    queue = FairQueue(memory=10)
    for memory in (6, 6, 50):
        queue.push(job("a", memory=memory))
    queue.push(job("b", memory=1, lane=Lane.QUICK))
    first = queue.pop()
    assert first is not None
    assert queue.pop(Lane.LONG) is not None, "the quick one of b"
    assert queue.pop(Lane.LONG) is None, "the second one of a waits"
    queue.ended(first, 1.0)
    second = queue.pop()
    assert second is not None
    queue.ended(second, 1.0)


async def test_a_job_is_asked_to_stop_and_its_room_is_held_until_it_does() -> None:
    pool = WorkerPool(1, 10)
    begun, asked, leave = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        while not stop_asked():
            time.sleep(0.01)
        asked.set()
        assert leave.wait(30)

    async def call() -> None:
        with pool.admit(7, "a"):
            await pool.run(work, client="a")

    task = asyncio.create_task(call())
    assert await asyncio.to_thread(begun.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(asked.wait, 30)
    assert pool.pending == 7, "its thread is not free"
    leave.set()
    async with asyncio.timeout(30):
        while pool.pending:
            await asyncio.sleep(0.01)
    pool.close()


async def test_quick_jobs_do_not_wait_for_long_ones() -> None:
    pool = WorkerPool(1, 10, lanes=True)
    leave = threading.Event()
    long = asyncio.create_task(
        pool.run(lambda: leave.wait(30), client="a", effort=Effort(lane=Lane.LONG))
    )
    await asyncio.sleep(0.05)
    for lane in (Lane.QUICK, Lane.SHORT):
        assert (await pool.run(lambda: 1, client="b", effort=Effort(lane=lane))).value == 1
    assert not long.done()
    leave.set()
    await long
    pool.close()


async def test_no_client_takes_all_room() -> None:
    pool = WorkerPool(1, 100)
    with ExitStack() as rooms:
        for _ in range(80):
            rooms.enter_context(pool.admit(1, "hog"))
        with pytest.raises(DomainError) as refused, pool.admit(1, "hog"):
            raise AssertionError("admitted")
        assert refused.value.reason is Reason.QUEUE_FULL
        with (
            pool.admit(15, "other"),
            pytest.raises(DomainError),
            pool.admit(6, "third"),
        ):
            raise AssertionError("admitted")
        with pool.admit(20, "other"):
            assert pool.pending == 100
    assert pool.pending == 0
    pool.close()


def test_the_smallest_memory_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    group = tmp_path / "sys/fs/cgroup/pods/mine"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pods/mine\n")
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{1 << 30}\n")
    assert available_memory(tmp_path) == 1 << 30
