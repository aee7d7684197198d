"""What is sent again, for how long, and through what."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import reaas
from reaas._retry import Backoff, Deadline
from reaas.testing import FakeModel, FakeServer

from tests.sdk.samples import make_images

PATIENT = reaas.ChannelOptions(retry_for_s=60, retry_max_delay_s=0.5)


def test_a_full_queue_is_tried_again_when_it_asks_for_it(
    client: Any, server: FakeServer, images: Any
) -> None:
    server.fail_next("QUEUE_FULL", count=3, retry_after_s=0.01)
    assert len(client.encode(images, "fake")) == len(images)


def test_a_draining_service_is_tried_again(client: Any, server: FakeServer, images: Any) -> None:
    server.fail_next("DRAINING", count=2)
    assert len(client.encode(images, "fake")) == len(images)


def test_the_retry_delay_of_the_service_is_kept(
    client: Any, server: FakeServer, images: Any
) -> None:
    server.fail_next("QUEUE_FULL", retry_after_s=0.5)
    start = time.monotonic()
    client.encode(images, "fake")
    assert time.monotonic() - start >= 0.5


@pytest.mark.parametrize("reason", ["INVALID_VALUE", "INTERNAL", "MODEL_BROKEN", "QUEUE_FULL"])
def test_what_time_does_not_cure_is_sent_once(
    client: Any, server: FakeServer, images: Any, reason: str
) -> None:
    server.fail_next(reason)  # QUEUE_FULL without RetryInfo: nobody said that waiting helps.
    with pytest.raises(reaas.ReaasError) as caught:
        client.encode(images, "fake")
    assert caught.value.reason == reason
    assert len(client.encode(images, "fake")) == len(images)


def test_patience_ends(server: FakeServer, make_client: Any, images: Any) -> None:
    client = make_client(server.address, options=reaas.ChannelOptions(retry_for_s=0.3))
    client.encode(images, "fake")
    server.fail_next("DRAINING", count=1000)
    with pytest.raises(reaas.ServiceUnavailableError):
        client.encode(images, "fake")


def test_a_longer_wait_than_the_patience_is_not_begun(
    server: FakeServer, make_client: Any, images: Any
) -> None:
    client = make_client(server.address)
    server.fail_next("QUEUE_FULL", retry_after_s=3600)
    with pytest.raises(reaas.OverloadedError) as caught:
        client.encode(images, "fake")
    assert caught.value.retry_after_s == 3600


def test_a_restart_in_the_middle_of_a_batch_is_survived(make_client: Any) -> None:
    with FakeServer(max_batch_inputs=4) as server:
        client = make_client(server.address, server.address, options=PATIENT)
        images = make_images(40)
        server.delay_s = 0.05

        def stop_and_start() -> None:
            server.stop()
            time.sleep(1)
            server.start()

        restart = threading.Timer(0.15, stop_and_start)
        restart.start()
        features = client.encode(images, "fake")
        restart.join()
        radii = client.perturb(images, np.ones(40), features.model)
    np.testing.assert_array_equal(features.values, server.model.encode(images / 255.0))
    np.testing.assert_allclose(radii.radius, 0.5, rtol=1e-4)
    assert client.ledger.totals(api="feature").queries == 40


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A fake server in a process of its own, to be killed."""

    def __init__(self, port: int, seed: int = 0) -> None:
        code = (
            "import sys, time; from reaas.testing import FakeModel, FakeServer; "
            f"server = FakeServer([FakeModel(seed={seed})], port={port}, max_batch_inputs=4); "
            "server.delay_s = 0.1; server.start(); print('up', flush=True); time.sleep(600)"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()


def test_kill_9_and_a_restart_are_survived(port: int, processes: list[Process]) -> None:
    processes.append(Process(port))
    images = make_images(40)
    with (
        reaas.Client(f"127.0.0.1:{port}", options=PATIENT) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        features = pool.submit(client.encode, images, "fake")
        while not client.ledger.totals().queries:
            time.sleep(0.01)
        processes[0].kill()
        processes.append(Process(port))
        values = features.result().values
    np.testing.assert_array_equal(values, FakeModel().encode(images / 255.0))


def test_kill_9_and_another_encoder_afterwards_give_no_answer(
    port: int, processes: list[Process]
) -> None:
    processes.append(Process(port))
    with (
        reaas.Client(f"127.0.0.1:{port}", options=PATIENT) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        features = pool.submit(client.encode, make_images(40), "fake")
        while not client.ledger.totals().queries:
            time.sleep(0.01)
        processes[0].kill()
        processes.append(Process(port, seed=1))
        with pytest.raises(reaas.DigestMismatchError, match="nothing was returned"):
            features.result()


def test_kill_9_without_patience_is_a_typed_error(port: int, processes: list[Process]) -> None:
    processes.append(Process(port))
    options = reaas.ChannelOptions(retry_for_s=0)
    with (
        reaas.Client(f"127.0.0.1:{port}", options=options) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        features = pool.submit(client.encode, make_images(40), "fake")
        while not client.ledger.totals().queries:
            time.sleep(0.01)
        processes[0].kill()
        with pytest.raises(reaas.ServiceUnavailableError):
            features.result()


def test_the_deadline_holds_while_the_service_works(
    client: Any, server: FakeServer, images: Any
) -> None:
    client.info()
    server.delay_s = 2.0
    with pytest.raises(reaas.DeadlineExceededError):
        client.encode(images, "fake", timeout=0.2)


def test_the_deadline_holds_over_retries(client: Any, server: FakeServer, images: Any) -> None:
    client.encode(images, "fake")
    server.fail_next("DRAINING", count=1000)
    with pytest.raises((reaas.DeadlineExceededError, reaas.ServiceUnavailableError)):
        client.encode(images, "fake", timeout=0.2)


def test_the_default_deadline_is_that_of_the_service(make_client: Any, images: Any) -> None:
    with FakeServer(default_deadline_s=1) as server:
        server.delay_s = 3.0
        with pytest.raises(reaas.DeadlineExceededError):
            make_client(server.address).encode(images, "fake")


def test_a_deadline_is_shared_by_the_rounds_that_are_left() -> None:
    deadline = Deadline(10.0)
    first, last = deadline.share(4).left(), deadline.share(1).left()
    assert first == pytest.approx(2.5, abs=0.1)
    assert last == pytest.approx(10.0, abs=0.1)
    assert Deadline(None).share(4).left() is None


def test_waits_grow_to_their_limit_and_are_spread() -> None:
    options = reaas.ChannelOptions(retry_for_s=1e9, retry_first_delay_s=1.0, retry_max_delay_s=8.0)
    error = reaas.ServiceUnavailableError("down")
    for _ in range(20):
        backoff = Backoff(options, Deadline(None))
        delays = [backoff.delay(error) or 0.0 for _ in range(6)]
        for delay, full in zip(delays, [1, 2, 4, 8, 8, 8], strict=True):
            assert full / 2 <= delay <= full
    assert Backoff(options, Deadline(None)).delay(reaas.ServerError("bug")) is None
