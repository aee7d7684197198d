"""The asynchronous client: the methods of `Client`, awaited. A test holds the two equal."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from reaas._aio_transport import AsyncTransport
from reaas._channel import TLS, ChannelOptions
from reaas._constant import radius_from_constant
from reaas._info import find_model, read_model_info, read_service_info
from reaas._ledger import Ledger
from reaas._model import (
    Features,
    Method,
    ModelInfo,
    ModelRef,
    Phase,
    Radii,
    Scheme,
    Service,
    ServiceInfo,
    as_ref,
    member,
)
from reaas._protocol import F2IPERTURB, FEATURE, encode_batch
from reaas._session import Purpose, Session, check_draws
from reaas._target import MarginBatch, margins_batch, perturb_batch
from reaas.v1 import model_pb2

Item = TypeVar("Item")
Made = TypeVar("Made")


class AsyncClient:
    """As `Client`, for one event loop: the one that it is first used on."""

    def __init__(
        self,
        encoder: str | None = None,
        f2i: str | None = None,
        *,
        api_key: str | None = None,
        tls: TLS | None = None,
        scheme: str = Scheme.REAAS,
        options: ChannelOptions | None = None,
    ) -> None:
        addresses = {Service.ENCODER: encoder, Service.F2I: f2i}
        self._scheme = member(Scheme, scheme, "scheme")
        self._draws: int | None = None
        self._session = Session(addresses, api_key, tls, options or ChannelOptions())
        self._transport = AsyncTransport(self._session)

    @property
    def ledger(self) -> Ledger:
        """See `Client.ledger`."""
        return self._session.ledger

    @property
    def scheme(self) -> Scheme:
        """See `Client.scheme`."""
        return self._scheme

    def with_scheme(self, scheme: str, *, draws: int | None = None) -> Self:
        """See `Client.with_scheme`."""
        derived = copy.copy(self)
        derived._scheme = member(Scheme, scheme, "scheme")
        derived._draws = check_draws(draws)
        return derived

    async def encode(
        self,
        inputs: NDArray[Any],
        model: ModelRef | str,
        *,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Features:
        """See `Client.encode`."""
        deadline = self._session.deadline(timeout)
        batch = encode_batch(inputs, model)
        return await self._transport.call(FEATURE, batch, self._purpose(phase), deadline)

    async def perturb(
        self,
        inputs: NDArray[Any],
        feature_radii: NDArray[Any],
        model: ModelRef,
        method: str = Method.AUTO,
        *,
        max_steps: int = 0,
        relative_tolerance: float = 0.0,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Radii:
        """See `Client.perturb`, for what the radii certify too."""
        deadline = self._session.deadline(timeout)
        batch = perturb_batch(inputs, feature_radii, model, method, max_steps, relative_tolerance)
        return await self._transport.call(F2IPERTURB, batch, self._purpose(phase), deadline)

    async def perturb_margins(
        self,
        inputs: NDArray[Any],
        normals: NDArray[Any],
        offsets: NDArray[Any],
        model: ModelRef,
        method: str = Method.AUTO,
        *,
        valid_within: NDArray[Any] | None = None,
        max_steps: int = 0,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Radii:
        """See `Client.perturb_margins`, for what the radii certify too."""
        deadline = self._session.deadline(timeout)
        batch = margins_batch(model, method, max_steps, inputs, normals, offsets, valid_within)
        return await self._transport.call(F2IPERTURB, batch, self._purpose(phase), deadline)

    def encode_stream(
        self,
        batches: Iterable[NDArray[Any]] | AsyncIterable[NDArray[Any]],
        model: ModelRef | str,
        *,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> AsyncIterator[Features]:
        """See `Client.encode_stream`; `batches` may be asynchronous."""
        ready = _each(lambda inputs: encode_batch(inputs, model), batches)
        return self._transport.stream(FEATURE, ready, self._purpose(phase), timeout)

    def perturb_stream(
        self,
        batches: Iterable[tuple[NDArray[Any], NDArray[Any]]]
        | AsyncIterable[tuple[NDArray[Any], NDArray[Any]]],
        model: ModelRef,
        method: str = Method.AUTO,
        *,
        max_steps: int = 0,
        relative_tolerance: float = 0.0,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> AsyncIterator[Radii]:
        """See `Client.perturb_stream`; `batches` may be asynchronous."""
        ready = _each(
            lambda pair: perturb_batch(*pair, model, method, max_steps, relative_tolerance), batches
        )
        return self._transport.stream(F2IPERTURB, ready, self._purpose(phase), timeout)

    def perturb_margins_stream(
        self,
        batches: Iterable[MarginBatch] | AsyncIterable[MarginBatch],
        model: ModelRef,
        method: str = Method.AUTO,
        *,
        max_steps: int = 0,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> AsyncIterator[Radii]:
        """See `Client.perturb_margins_stream`; `batches` may be asynchronous."""
        ready = _each(lambda batch: margins_batch(model, method, max_steps, *batch), batches)
        return self._transport.stream(F2IPERTURB, ready, self._purpose(phase), timeout)

    async def radius_from_constant(
        self, inputs: NDArray[Any], feature_radii: NDArray[Any], model: ModelRef | str
    ) -> NDArray[np.float64]:
        """See `Client.radius_from_constant`."""
        return radius_from_constant(await self.model(model), inputs, feature_radii)

    async def models(self, service: str | None = None) -> list[ModelInfo]:
        """See `Client.models`."""
        name, purpose = self._session.any_service(service), Purpose(self._scheme)
        request = model_pb2.ListModelsRequest()
        reply = await self._transport.ask(name, "ListModels", request, purpose)
        return [read_model_info(model) for model in reply.models]

    async def model(self, model: ModelRef | str, service: str | None = None) -> ModelInfo:
        """See `Client.model`."""
        return find_model(await self.models(service), as_ref(model))

    async def info(self, service: str | None = None) -> ServiceInfo:
        """See `Client.info`."""
        name, purpose = self._session.any_service(service), Purpose(self._scheme)
        reply = await self._transport.ask(name, "GetInfo", model_pb2.GetInfoRequest(), purpose)
        return read_service_info(reply)

    async def close(self) -> None:
        """See `Client.close`."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def _purpose(self, phase: str) -> Purpose:
        return Purpose(self._scheme, member(Phase, phase, "phase"), self._draws)


async def _each(
    make: Callable[[Item], Made], items: Iterable[Item] | AsyncIterable[Item]
) -> AsyncIterator[Made]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield make(item)
    else:
        for item in items:
            yield make(item)
