"""From a question to jobs of the pool: new image sizes once, answers in parts and in time."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from functools import partial

from reaas_runtime import Call, DomainError, Done, Effort, Reason, WorkerPool

from reaas_f2i.certifier import Certifier
from reaas_f2i.effort import building_effort, effort_of, within_memory
from reaas_f2i.patience import reserve
from reaas_f2i.sizes import Shape, SizedEncoder
from reaas_f2i.targets import Answer, Question

Part = Done[Sequence[Answer]]


class NewSizes:
    """Constants of image sizes that nobody has asked about before. Use from one event loop.

    Each is made once, whoever waits for it: a caller whose deadline is shorter is told when to come
    back, and finds it then.
    """

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._making: dict[tuple[Certifier, Shape], asyncio.Task[float]] = {}

    async def ready(self, certifier: Certifier, shape: Shape, call: Call) -> SizedEncoder:
        """The encoder at `shape` [height, width, channels].

        Raises DomainError DEADLINE_TOO_SHORT with the time after which it may be ready.
        """
        encoder = certifier.sizes.known(shape, call.client_id)
        while encoder is None:
            await self._made(certifier, shape, call)
            encoder = certifier.sizes.known(shape, call.client_id)
        return encoder

    async def _made(self, certifier: Certifier, shape: Shape, call: Call) -> None:
        key = (certifier, shape)
        if key not in self._making:
            task = asyncio.create_task(self._make(certifier, shape, call.client_id))
            self._making[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        try:
            async with asyncio.timeout(None if call.deadline is None else call.time_left()):
                await asyncio.shield(self._making[key])
        except TimeoutError:
            raise DomainError(
                Reason.DEADLINE_TOO_SHORT,
                f"images of {shape[0]}x{shape[1]} are new here: their constants are being made, "
                "ask again",
                field="deadline",
                retry_after_s=building_effort(math.prod(shape)).seconds,
            ) from None

    async def _make(self, certifier: Certifier, shape: Shape, client: str) -> float:
        done = await self._pool.run(
            partial(certifier.prepare, shape, client),
            client=client,
            effort=building_effort(math.prod(shape)),
        )
        return done.busy_seconds

    def _ended(self, key: tuple[Certifier, Shape], done: asyncio.Task[float]) -> None:
        del self._making[key]
        if not done.cancelled():
            done.exception()  # whoever waits has it; nobody may


async def answer_in_parts(
    pool: WorkerPool,
    certifier: Certifier,
    encoder: SizedEncoder,
    question: Question,
    call: Call,
    together: int,
) -> list[Part]:
    """Answers in parts, side by side, all by the deadline with what is certified by then."""
    count = len(question.images)
    step = question.target.images_per_job(together)
    parts = [question.part(slice(start, start + step)) for start in range(0, count, step)]
    parts = [within_memory(part, encoder, pool.memory) for part in parts]
    left = [math.ceil((len(parts) - index) / pool.workers) for index in range(len(parts))]
    tasks = [
        asyncio.create_task(_answer(pool, certifier, encoder, part, call, rounds))
        for part, rounds in zip(parts, left, strict=True)
    ]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _answer(
    pool: WorkerPool,
    certifier: Certifier,
    encoder: SizedEncoder,
    part: Question,
    call: Call,
    rounds: int,
) -> Part:
    """One part; where its turn does not come in time, what its closed form says."""
    effort = effort_of(part, encoder)
    last_call = None if call.deadline is None else call.deadline - reserve(call.time_left()) / 2
    search = partial(certifier.answer, part, call.deadline, rounds)
    try:
        return await pool.run(search, deadline=last_call, client=call.client_id, effort=effort)
    except DomainError as error:
        if error.reason is not Reason.DEADLINE_TOO_SHORT:
            raise
    closed = partial(certifier.answer, part, time.monotonic())
    return await pool.run(
        closed,
        deadline=call.deadline,
        client=call.client_id,
        effort=Effort(memory=effort.memory // 8),
    )
