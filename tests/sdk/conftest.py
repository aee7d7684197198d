"""Fake servers, and one set of tests for both clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import reaas
from reaas.testing import FakeServer

from tests.sdk.samples import make_images


class Blocking:
    """An AsyncClient behind the blocking interface of Client, so that one test serves both."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = reaas.AsyncClient(*args, **options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        return self._blocking(value) if callable(value) else value

    def _blocking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            result = method(*args, **options)
            if isinstance(result, reaas.AsyncClient):
                derived = object.__new__(Blocking)
                derived._loop, derived._client = self._loop, result
                return derived
            if isinstance(result, AsyncIterator):
                return self._each(result)
            return self._loop.run_until_complete(result)

        return call

    def _each(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        end = object()
        while (item := self._loop.run_until_complete(anext(items, end))) is not end:
            yield item

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@pytest.fixture(params=[reaas.Client, Blocking], ids=["sync", "async"])
def make_client(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of either kind and closes them."""
    opened: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        opened.append(request.param(*args, **options).__enter__())
        return opened[-1]

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as fake:
        yield fake


@pytest.fixture
def client(server: FakeServer, make_client: Callable[..., Any]) -> Any:
    return make_client(server.address, server.address)


@pytest.fixture
def images() -> Any:
    return make_images(5)
