"""The synchronous client; safe to share between threads."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

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
from reaas._transport import Transport
from reaas.v1 import model_pb2


class Client:
    """Calls the Feature-API and the F2IPerturb-API.

    `encoder` and `f2i` are addresses (`host:port`, or any gRPC target); either may be left out.
    `api_key` is sent unencrypted to this very host only, unless `options` say otherwise.
    Connects with the first call. A context manager; `close` ends the derived clients too. Threads
    may share a client, processes may not: make it after a fork.
    """

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
        self._transport = Transport(self._session)

    @property
    def ledger(self) -> Ledger:
        """Queries and bytes of this client and of those that share its channels."""
        return self._session.ledger

    @property
    def scheme(self) -> Scheme:
        """What this client's queries are metered under."""
        return self._scheme

    def with_scheme(self, scheme: str, *, draws: int | None = None) -> Self:
        """A client of another scheme that shares channels and ledger with this one.

        `draws` declares to the services how many queries one certificate takes as SEaaS (n0 + n),
        so that operators can compare the schemes' costs; None declares nothing. Raises
        InvalidArgumentError.
        """
        derived = copy.copy(self)
        derived._scheme = member(Scheme, scheme, "scheme")
        derived._draws = check_draws(draws)
        return derived

    def encode(
        self,
        inputs: NDArray[Any],
        model: ModelRef | str,
        *,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Features:
        """Features [n, d] of inputs [n, h, w, c], uint8 or float32 in [0,1]. n queries.

        `timeout` in seconds is for the whole call, however many messages and retries it takes;
        None: that of the channel options. Raises ReaasError.
        """
        deadline = self._session.deadline(timeout)
        batch = encode_batch(inputs, model)
        return self._transport.call(FEATURE, batch, self._purpose(phase), deadline)

    def perturb(
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
        """Image-space certified radii R [n] from feature-space ones R' [n]. n queries.

        Every x' with ||x' - x||_2 <= R has its served feature within R' of that of x; pixels in
        [0,1], of the inputs as they were sent. Deterministic. `model` is the one that `encode`
        answered with. `max_steps` and `relative_tolerance` end the search; 0: the service's
        default. A `timeout` is divided among the messages of the call; radii whose search it cuts
        short are certified, and smaller. Raises ReaasError.
        """
        deadline = self._session.deadline(timeout)
        batch = perturb_batch(inputs, feature_radii, model, method, max_steps, relative_tolerance)
        return self._transport.call(F2IPERTURB, batch, self._purpose(phase), deadline)

    def perturb_margins(
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
        """Image-space certified radii R [n] from margins around each feature. n queries.

        `normals` a [n, m, d] and `offsets` m [n, m], taken as float64: every x' with
        ||x' - x||_2 < R has ``a_i . (z' - z) > -m_i`` for each row i, z and z' being the served
        features of x and x'. With s sets, `normals` [n, s, m, d], `offsets` [n, s, m] and
        `valid_within` rho [n, s] (infinity: everywhere), R is the best set's: all its rows hold,
        and ||z' - z||_2 <= rho. Still n queries. Deterministic. `reaas.certify.margin_planes` has
        those of a classifier; they tell the service how it looks around z (docs/security.md).
        Every `method` serves margins; `max_steps` is the most envelopes or steps. The rest is as
        for `perturb`. Raises ReaasError.
        """
        deadline = self._session.deadline(timeout)
        batch = margins_batch(model, method, max_steps, inputs, normals, offsets, valid_within)
        return self._transport.call(F2IPERTURB, batch, self._purpose(phase), deadline)

    def encode_stream(
        self,
        batches: Iterable[NDArray[Any]],
        model: ModelRef | str,
        *,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Iterator[Features]:
        """As `encode` for many batches: an answer for each, in order, `timeout` for each.

        A few messages are on their way at once; batches are taken as the service keeps up. The
        first failure ends it, and every answer before that is good. Raises DigestMismatchError
        where the encoder changes on the way.
        """
        ready = (encode_batch(inputs, model) for inputs in batches)
        return self._transport.stream(FEATURE, ready, self._purpose(phase), timeout)

    def perturb_stream(
        self,
        batches: Iterable[tuple[NDArray[Any], NDArray[Any]]],
        model: ModelRef,
        method: str = Method.AUTO,
        *,
        max_steps: int = 0,
        relative_tolerance: float = 0.0,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Iterator[Radii]:
        """As `perturb` for many (inputs, feature_radii); see `encode_stream`."""
        ready = (
            perturb_batch(inputs, radii, model, method, max_steps, relative_tolerance)
            for inputs, radii in batches
        )
        return self._transport.stream(F2IPERTURB, ready, self._purpose(phase), timeout)

    def perturb_margins_stream(
        self,
        batches: Iterable[MarginBatch],
        model: ModelRef,
        method: str = Method.AUTO,
        *,
        max_steps: int = 0,
        phase: str = Phase.TEST,
        timeout: float | None = None,
    ) -> Iterator[Radii]:
        """As `perturb_margins` for many (inputs, normals, offsets) or (inputs, normals, offsets,
        valid_within); see `encode_stream`."""
        ready = (margins_batch(model, method, max_steps, *batch) for batch in batches)
        return self._transport.stream(F2IPERTURB, ready, self._purpose(phase), timeout)

    def radius_from_constant(
        self, inputs: NDArray[Any], feature_radii: NDArray[Any], model: ModelRef | str
    ) -> NDArray[np.float64]:
        """Image-space certified radii, float64 [n], by the model's constant: no query at all.

        R = max(0, (R' - 2 slope ||x|| - 2 offset) / (L + slope)), for inputs of the encoder's own
        shape. Deterministic. `perturb` finds larger ones, for every input shape.
        """
        return radius_from_constant(self.model(model), inputs, feature_radii)

    def models(self, service: str | None = None) -> list[ModelInfo]:
        """The models that a service has, `encoder` (where there is one) or `f2i`; no query."""
        name, purpose = self._session.any_service(service), Purpose(self._scheme)
        reply = self._transport.ask(name, "ListModels", model_pb2.ListModelsRequest(), purpose)
        return [read_model_info(model) for model in reply.models]

    def model(self, model: ModelRef | str, service: str | None = None) -> ModelInfo:
        """The one model that `model` names now, the latest where it names no version; no query.

        Its `ref` has the digest: queries that name it are never answered by another encoder.
        Raises ModelNotFoundError.
        """
        return find_model(self.models(service), as_ref(model))

    def info(self, service: str | None = None) -> ServiceInfo:
        """What a service is and allows, `encoder` (where there is one) or `f2i`; no query."""
        name, purpose = self._session.any_service(service), Purpose(self._scheme)
        reply = self._transport.ask(name, "GetInfo", model_pb2.GetInfoRequest(), purpose)
        return read_service_info(reply)

    def close(self) -> None:
        """Closes the channels. Calls under way are cancelled."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _purpose(self, phase: str) -> Purpose:
        return Purpose(self._scheme, member(Phase, phase, "phase"), self._draws)
