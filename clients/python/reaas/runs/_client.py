"""The client of the pre-training service; safe to share between threads."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import grpc

from reaas._channel import TLS, ChannelOptions, Endpoint, check_api_key
from reaas._errors import CLOSED, ReaasError, error_of_call
from reaas._retry import Backoff, Deadline
from reaas.runs._model import (
    Event,
    Recipe,
    Recipes,
    Run,
    RunError,
    read_event,
    read_run,
    state_number,
)
from reaas.v1 import pretrain_pb2, pretrain_pb2_grpc

# Refusals that are about the run, whatever status code they travel with.
_ABOUT_THE_RUN = frozenset(
    {
        "RUN_NOT_FOUND",
        "RUN_NOT_SUCCEEDED",
        "RUN_BROKEN",
        "PUBLISH_FAILED",
        "VERSION_EXISTS",
        "REQUEST_ID_REUSED",
    }
)


class RunsClient:
    """Calls the pre-training service at `address`. A context manager; threads may share it."""

    def __init__(
        self,
        address: str,
        *,
        api_key: str | None = None,
        tls: TLS | None = None,
        options: ChannelOptions | None = None,
    ) -> None:
        self._options = options or ChannelOptions()
        endpoint = Endpoint(address, tls, self._options)
        check_api_key(api_key, endpoint)
        self._address = address
        self._metadata = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._channel = endpoint.open()
        self._stub = pretrain_pb2_grpc.PretrainServiceStub(self._channel)
        self._closed = False

    def create(
        self,
        recipe: str,
        *,
        overrides: Mapping[str, str] | None = None,
        dataset: str = "",
        source: str = "",
        epochs: int = 0,
        seed: int | None = None,
        request_id: str | None = None,
    ) -> Run:
        """Queue a run.

        `dataset` is a directory below the service's data root, `source` what to learn from: a data
        set by name (see `recipes`), or a folder or .npz file in that directory.
        `overrides` are keys of the recipe with TOML values, for example {"spectral.weight": "0.5"};
        `epochs` 0 and `seed` None are the recipe's. The same `request_id` makes one run, however
        often it is sent; None: one of its own. Raises ReaasError.
        """
        spec = pretrain_pb2.RunSpec(
            recipe=recipe,
            overrides=overrides,
            dataset=dataset,
            source=source,
            epochs=epochs,
            seed=seed,
        )
        wanted = pretrain_pb2.CreateRunRequest(spec=spec, request_id=request_id or uuid.uuid4().hex)
        return read_run(self._ask(self._stub.CreateRun, wanted).run)

    def get(self, run_id: str) -> Run:
        """A run as it is now. Raises RunError."""
        request = pretrain_pb2.GetRunRequest(run_id=run_id)
        return read_run(self._ask(self._stub.GetRun, request).run)

    def runs(self, state: str | None = None) -> Iterator[Run]:
        """All runs, or those in `state`: the newest first, fetched page by page."""
        request = pretrain_pb2.ListRunsRequest(state=state_number(state))
        while True:
            reply = self._ask(self._stub.ListRuns, request)
            yield from map(read_run, reply.runs)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    def watch(self, run_id: str) -> Iterator[Event]:
        """A run as it goes on, until it has ended: the last event is the run.

        Every row and line comes once, also where the service is restarted meanwhile.
        """
        request = pretrain_pb2.WatchRunRequest(run_id=run_id)
        backoff = Backoff(self._options, Deadline(None))
        while True:
            self._check_open()
            stream = self._stub.WatchRun(request, metadata=self._metadata)
            try:
                for event in stream:
                    backoff = Backoff(self._options, Deadline(None))
                    request.after_epoch = event.progress.epoch or request.after_epoch
                    request.log_offset = event.log.end or request.log_offset
                    yield read_event(event)
                return
            except grpc.RpcError as failed:
                self._wait(failed, backoff)
            finally:
                stream.cancel()

    def cancel(self, run_id: str) -> Run:
        """Ask for the end of a run; one that has ended stays as it is. Raises RunError."""
        request = pretrain_pb2.CancelRunRequest(run_id=run_id)
        return read_run(self._ask(self._stub.CancelRun, request).run)

    def publish(self, run_id: str, version: str = "", *, timeout: float | None = None) -> Run:
        """Put the encoder of a run that succeeded into the model repository; returns the run.

        `version` empty: the next number. Takes minutes, and goes on if this call's `timeout` (in
        seconds; None: there is none) ends it: calling it again waits for the same version.
        Raises RunError.
        """
        request = pretrain_pb2.PublishRunRequest(run_id=run_id, version=version)
        return read_run(self._send(self._stub.PublishRun, request, timeout).run)

    def recipes(self) -> Recipes:
        """What runs can be made from."""
        reply = self._ask(self._stub.ListRecipes, pretrain_pb2.ListRecipesRequest())
        recipes = (Recipe(r.name, r.description, r.settings_json) for r in reply.recipes)
        return Recipes(tuple(recipes), tuple(reply.datasets), tuple(reply.sources))

    def close(self) -> None:
        """Closes the channel. Calls under way are cancelled."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, rpc: Any, request: Any) -> Any:
        return self._send(rpc, request, self._options.info_timeout_s)

    def _send(self, rpc: Any, request: Any, timeout_s: float | None) -> Any:
        """One call, again while the service is unavailable: every one of them may be repeated."""
        self._check_open()
        deadline = Deadline(timeout_s)
        backoff = Backoff(self._options, deadline)
        while True:
            try:
                return rpc(request, timeout=deadline.left(), metadata=self._metadata)
            except grpc.RpcError as failed:
                self._wait(failed, backoff)

    def _check_open(self) -> None:
        if self._closed:
            raise ReaasError(CLOSED)

    def _wait(self, failed: grpc.RpcError, backoff: Backoff) -> None:
        """Wait for another attempt. Raises ReaasError where there is none."""
        error = _as_run_error(error_of_call(failed, self._address))
        delay = backoff.delay(error)
        if delay is None:
            raise error from failed
        time.sleep(delay)


def _as_run_error(error: ReaasError) -> ReaasError:
    if error.reason not in _ABOUT_THE_RUN:
        return error
    return RunError(
        error.message, reason=error.reason, field=error.field, limit=error.limit, got=error.got
    )
