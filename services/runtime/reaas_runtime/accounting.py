"""Every call's outcome: counted, charged, logged, and its errors made statuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message

from reaas_runtime.call import Call, enter_call
from reaas_runtime.errors import DomainError, Reason
from reaas_runtime.inbox import Inbox
from reaas_runtime.metering import FRAME_BYTES, Meter, RpcName
from reaas_runtime.pace import CallLimiter
from reaas_runtime.status import abort, code_of, forget

# Refusals that say nothing against the caller, or that have been counted.
_NOT_ITS_FAULT = frozenset(
    {
        Reason.TOO_MANY_CALLS,
        Reason.QUEUE_FULL,
        Reason.NOT_READY,
        Reason.DRAINING,
        Reason.DEADLINE_TOO_SHORT,
    }
)

_log = structlog.get_logger("reaas.calls")
Context = grpc.aio.ServicerContext[Any, Any]


class Accounting:
    """The books of one service: which calls are there, what they hold, what they cost."""

    def __init__(self, meter: Meter, inbox: Inbox, limiter: CallLimiter) -> None:
        self._meter = meter
        self._limiter = limiter
        self._inbox = inbox
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no call is in flight."""
        await self._idle.wait()

    @asynccontextmanager
    async def of(self, rpc: RpcName, call: Call, context: Context) -> AsyncIterator[None]:
        """Around one call: map errors to statuses, count and log the outcome."""
        begun = time.monotonic()
        code = grpc.StatusCode.OK
        self._enter(rpc)
        try:
            enter_call(call)
            yield
        except DomainError as error:
            # The message quotes what was sent: a pixel, a radius, a key in a wrong place.
            code, call.why = code_of(error), f"{error.reason} {error.field}".strip()
            self._meter.refused(error.reason)
            if error.reason not in _NOT_ITS_FAULT:
                self._limiter.refused(call.caller)
            await abort(context, error)
        except (asyncio.CancelledError, GeneratorExit):
            code = _why_cancelled(context)
            raise
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            code = grpc.StatusCode.INTERNAL
            _log.error("call failed", method=rpc.method, client=call.client_id, exc_info=error)
            forget(error)
            await abort(context, DomainError(Reason.INTERNAL, "internal error of the service"))
        finally:
            self._leave(rpc, call, code, time.monotonic() - begun)

    def hold(self, call: Call, size: int) -> None:
        """Replace what `call` holds in memory by `size` bytes. Raises DomainError QUEUE_FULL."""
        self._inbox.replace(call.held_bytes, size)
        call.held_bytes = size

    def serialise(self, call: Call, reply: Message) -> bytes:
        """The reply as it travels."""
        raw = reply.SerializeToString()
        call.totals["response_bytes"] += len(raw) + FRAME_BYTES
        return raw

    def settle(self, call: Call, reply: Message) -> bytes:
        """Serialise the reply and count what the message cost, just before it leaves.

        Charging is the last that can fail: who gets INTERNAL has not paid.
        """
        raw, received = self.serialise(call, reply), call.held_bytes
        call.totals["request_bytes"] += received + FRAME_BYTES
        if call.cost is not None:
            call.totals["queries"] += call.cost.queries
            self._meter.charge(
                call.client_id,
                call.scheme,
                call.phase,
                call.cost,
                received,
                len(raw),
                call.draws,
            )
        return raw

    def _enter(self, rpc: RpcName) -> None:
        self._in_flight += 1
        self._idle.clear()
        self._meter.started(rpc)

    def _leave(self, rpc: RpcName, call: Call, code: grpc.StatusCode, seconds: float) -> None:
        self.hold(call, 0)
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()
        self._meter.handled(rpc, code.name, seconds)
        _log.info(
            "call",
            client=call.client_id,
            method=rpc.method,
            api=call.cost.api if call.cost else None,
            model=call.cost.model if call.cost else None,
            scheme=call.scheme,
            phase=call.phase,
            code=code.name,
            why=call.why,
            ms=round(1000 * seconds, 3),
            **call.totals,
        )


def _why_cancelled(context: Context) -> grpc.StatusCode:
    remaining = context.time_remaining()
    late = remaining is not None and remaining <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
