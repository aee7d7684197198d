"""Room for messages before they are read: bounds, fairness, and those who keep others waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from reaas_runtime import DomainError, Reason
from reaas_runtime.inbox import Inbox

Receive = Callable[[], Awaitable[bytes]]


class Sender:
    """Messages that come when the test lets them; how many are being read."""

    def __init__(self) -> None:
        self.reading = 0
        self.most = 0
        self.let = asyncio.Event()

    async def receive(self) -> bytes:
        self.reading += 1
        self.most = max(self.most, self.reading)
        try:
            await self.let.wait()
        finally:
            self.reading -= 1
        return b"m"


def inbox(places: int, patience: float = 60.0) -> Inbox:
    return Inbox(capacity=100 * places, largest=100, patience_s=patience)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_are_read_than_there_is_room_for() -> None:
    sender, box = Sender(), inbox(8)
    calls = [asyncio.create_task(box.read(str(i % 10), sender.receive, None)) for i in range(100)]
    await settle()
    assert sender.reading == 8
    sender.let.set()
    assert await asyncio.gather(*calls) == [b"m"] * 100
    assert sender.most == 8


async def test_a_client_takes_a_quarter_and_leaves_the_rest() -> None:
    greedy, other, box = Sender(), Sender(), inbox(8)
    calls = [asyncio.create_task(box.read("greedy", greedy.receive, None)) for _ in range(50)]
    await settle()
    assert greedy.reading == 2
    other.let.set()
    async with asyncio.timeout(5):
        assert await box.read("other", other.receive, None) == b"m"
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    assert not box._places
    assert not box._waiting


async def test_who_sends_nothing_makes_room_for_those_that_wait() -> None:
    stuck, other, box = Sender(), Sender(), inbox(1, patience=0.05)
    slow = asyncio.create_task(box.read("slow", stuck.receive, None))
    await settle()
    other.let.set()
    async with asyncio.timeout(10):
        assert await box.read("other", other.receive, None) == b"m"
    with pytest.raises(DomainError) as refused:
        await slow
    assert refused.value.reason is Reason.QUEUE_FULL
    assert refused.value.retry_after_s


async def test_who_waits_alone_may_take_its_time() -> None:
    sender, box = Sender(), inbox(1, patience=0.01)
    call = asyncio.create_task(box.read("a", sender.receive, None))
    await asyncio.sleep(0.1)
    sender.let.set()
    assert await call == b"m"


async def test_times_that_pass_are_told_apart() -> None:
    sender, box = Sender(), inbox(1)
    reading = asyncio.create_task(box.read("a", sender.receive, 0.2))
    await settle()
    with pytest.raises(DomainError) as waited:
        await box.read("b", sender.receive, 0.05)
    assert waited.value.reason is Reason.QUEUE_FULL
    with pytest.raises(DomainError) as late:
        await reading
    assert late.value.reason is Reason.DEADLINE_TOO_SHORT


async def test_messages_in_work_take_room_and_one_is_always_read() -> None:
    sender, box = Sender(), inbox(4)
    box.replace(0, 250)
    calls = [asyncio.create_task(box.read(str(i), sender.receive, None)) for i in range(5)]
    await settle()
    assert sender.reading == 1
    box.replace(250, 0)
    await settle()
    assert sender.reading == 4
    with pytest.raises(DomainError, match="more than 400"):
        box.replace(0, 401)
    sender.let.set()
    await asyncio.gather(*calls)


async def test_after_a_long_message_a_client_pauses_and_others_do_not() -> None:
    box = Inbox(capacity=1 << 30, largest=1 << 28, patience_s=60.0)

    async def long() -> bytes:
        return bytes(30 << 20)

    loop = asyncio.get_running_loop()
    await box.read("a", long, None)
    begun = loop.time()
    second = asyncio.create_task(box.read("a", long, None))
    await box.read("b", long, None)
    assert not second.done()
    await second
    assert loop.time() - begun > 0.1
