from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from reaas_runtime import DomainError, Reason, WorkerPool, current_call
from reaas_runtime.call import Call, enter_call


class House:
    """A pool of one worker that can be kept busy, and what it skipped."""

    def __init__(self) -> None:
        self.skipped: list[str] = []
        self.pool = WorkerPool(1, 10, self.skipped.append)
        self.release = threading.Event()

    async def occupy(self) -> asyncio.Task[object]:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def job() -> None:
            loop.call_soon_threadsafe(begun.set)
            assert self.release.wait(30)

        task = asyncio.create_task(self.pool.run(job))
        await begun.wait()
        return task


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.release.set()
    house.pool.close()


async def test_results_and_times(house: House) -> None:
    def job() -> str:
        time.sleep(0.02)
        return "answer"

    done = await house.pool.run(job)
    assert done.value == "answer"
    assert done.busy_seconds >= 0.02
    assert done.queue_seconds >= 0


async def test_admission_is_counted_in_inputs(house: House) -> None:
    with house.pool.admit(6):
        with pytest.raises(DomainError) as refused, house.pool.admit(5):
            raise AssertionError("admitted")
        assert refused.value.reason is Reason.QUEUE_FULL
        assert refused.value.limit == "10"
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s > 0
        with house.pool.admit(4):
            assert house.pool.pending == 10
    assert house.pool.pending == 0


async def test_a_failed_job_gives_its_room_back(house: House) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), house.pool.admit(10):
        await house.pool.run(fail)
    assert house.pool.pending == 0


async def test_the_deadline_holds_in_the_queue(house: House) -> None:
    busy = await house.occupy()
    ran: list[int] = []
    with pytest.raises(DomainError) as late:
        await house.pool.run(lambda: ran.append(1), deadline=time.monotonic() + 0.05)
    assert late.value.reason is Reason.DEADLINE_TOO_SHORT
    house.release.set()
    await busy
    await house.pool.run(lambda: None)
    assert ran == []
    assert house.skipped == ["deadline"]


async def test_a_caller_that_has_gone_is_skipped_and_counted(house: House) -> None:
    busy = await house.occupy()
    ran: list[int] = []
    waiting = asyncio.create_task(house.pool.run(lambda: ran.append(1)))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    house.release.set()
    await busy
    await house.pool.run(lambda: None)
    assert ran == []
    assert house.skipped == ["gone"]


async def test_the_first_failure_drops_the_rest(house: House) -> None:
    ran: list[int] = []

    def fail() -> None:
        time.sleep(0.02)
        raise ZeroDivisionError

    def slow() -> None:
        time.sleep(0.1)
        ran.append(1)

    with pytest.raises(ZeroDivisionError):
        await house.pool.run_all([fail, *[slow] * 5])
    await house.pool.run(lambda: None)
    assert len(ran) <= 1
    assert "gone" in house.skipped


async def test_jobs_see_the_call_they_belong_to(house: House) -> None:
    enter_call(Call(client_id="phone", scheme="reaas", phase="test"))
    done = await house.pool.run(lambda: current_call().client_id)
    assert done.value == "phone"


async def test_a_time_out_inside_a_job_is_not_a_deadline(house: House) -> None:
    def fail() -> None:
        raise TimeoutError("of the job")

    with pytest.raises(TimeoutError, match="of the job"):
        await house.pool.run(fail, deadline=time.monotonic() + 10)
