"""A replica that is stopped (SIGSTOP): the system still accepts for it, and it never answers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import reaas
from reaas._attempts import Attempts
from reaas._retry import Deadline
from reaas.testing import FakeServer

from tests.sdk.samples import make_images

_SERVE = (
    "import time; from reaas.testing import FakeServer; server = FakeServer(); server.start(); "
    "print(server.address, flush=True); time.sleep(600)"
)
# Less than any single attempt of the service's own 60 s.
_NOT_THE_WHOLE_TIME_S = 45.0


@contextmanager
def stoppable() -> Iterator[tuple[str, int]]:
    """A server in a process of its own: address and process id."""
    process = subprocess.Popen([sys.executable, "-c", _SERVE], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def pair() -> Iterator[tuple[FakeServer, str, int]]:
    """A server that goes on, the target of both, and the process id of the one to stop."""
    with FakeServer() as healthy, stoppable() as (address, pid):
        yield healthy, f"ipv4:{address},{healthy.address}", pid


def warm(client: Any, healthy: FakeServer, images: Any) -> reaas.ModelRef:
    """Connects to both, so that the one that is stopped is in use."""
    for _ in range(8):
        model = client.encode(images, "fake").model
    healthy.meter.reset()
    client.ledger.reset()
    return model  # type: ignore[no-any-return]


def test_calls_move_to_the_other_replica_and_stay_there(
    make_client: Any, pair: tuple[FakeServer, str, int], images: Any
) -> None:
    healthy, target, pid = pair
    client = make_client(target, target, options=reaas.ChannelOptions(timeout_s=6.0))
    expected = client.encode(images, "fake").values
    warm(client, healthy, images)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(30):  # Each within its 6 s; but for a few, none asks the stopped one.
        np.testing.assert_array_equal(client.encode(images, "fake").values, expected)
    given_up = sum(usage.queries for usage in client.ledger.unconfirmed().values())
    assert given_up <= 5 * len(images)
    assert client.ledger.totals().queries == healthy.meter.totals().queries == 30 * len(images)
    os.kill(pid, signal.SIGCONT)
    client.encode(images, "fake")


def test_without_a_timeout_nothing_waits_for_the_whole_default(
    make_client: Any, pair: tuple[FakeServer, str, int], images: Any
) -> None:
    healthy, target, pid = pair
    options = reaas.ChannelOptions(keepalive_s=10.0, keepalive_timeout_s=1.0)
    client = make_client(target, target, options=options)
    model = warm(client, healthy, images)
    os.kill(pid, signal.SIGSTOP)
    assert len(client.encode(images, "fake", timeout=_NOT_THE_WHOLE_TIME_S)) == len(images)
    radii = [
        client.perturb(images, np.ones(len(images)), model, timeout=_NOT_THE_WHOLE_TIME_S)
        for _ in range(4)
    ]
    for radius in radii:
        np.testing.assert_allclose(radius.radius, 0.5, rtol=1e-4)
    assert len(list(client.encode_stream([images] * 6, "fake"))) == 6


def test_many_callers_at_the_moment_of_the_stop(
    pair: tuple[FakeServer, str, int], images: Any
) -> None:
    healthy, target, pid = pair
    with (
        reaas.Client(target, options=reaas.ChannelOptions(timeout_s=8.0)) as client,
        ThreadPoolExecutor(8) as callers,
    ):
        warm(client, healthy, images)
        calls = [callers.submit(client.encode, images, "fake") for _ in range(20)]
        os.kill(pid, signal.SIGSTOP)
        calls += [callers.submit(client.encode, images, "fake") for _ in range(60)]
        assert [len(call.result()) for call in calls] == [len(images)] * 80


def test_an_address_that_accepts_and_never_speaks(make_client: Any, server: FakeServer) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(8)
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        client = make_client(f"ipv4:{address},{server.address}")
        for _ in range(10):
            assert len(client.encode(make_images(2), "fake", timeout=20.0)) == 2


def test_a_hedge_is_answered_by_the_other_replica(
    make_client: Any, pair: tuple[FakeServer, str, int], images: Any
) -> None:
    healthy, target, pid = pair
    options = reaas.ChannelOptions(
        hedge_after_s=0.2, attempt_timeout_s=40.0, keepalive_s=60.0, keepalive_timeout_s=60.0
    )
    client = make_client(target, target, options=options)
    warm(client, healthy, images)
    os.kill(pid, signal.SIGSTOP)
    for _ in range(6):
        assert len(client.encode(images, "fake", timeout=_NOT_THE_WHOLE_TIME_S)) == len(images)
    assert client.ledger.totals().queries == healthy.meter.totals().queries == 6 * len(images)
    assert client.ledger.unconfirmed()


def test_what_both_answer_is_within_the_account(make_client: Any, images: Any) -> None:
    with FakeServer() as one, FakeServer() as two:
        one.delay_s = two.delay_s = 0.1
        client = make_client(
            f"ipv4:{one.address},{two.address}", options=reaas.ChannelOptions(hedge_after_s=0.01)
        )
        for _ in range(5):
            client.encode(images, "fake")
        mine = client.ledger.totals().queries
        unheard = sum(usage.queries for usage in client.ledger.unconfirmed().values())
        assert mine == 5 * len(images)
        one.stop()
        two.stop()
        billed = one.meter.totals().queries + two.meter.totals().queries
        assert mine <= billed <= mine + unheard


def test_the_time_of_a_message_is_divided_among_the_replicas() -> None:
    timed_out = reaas.DeadlineExceededError("no answer")
    ours = reaas.ChannelOptions()

    def first(options: reaas.ChannelOptions = ours, **fields: Any) -> float | None:
        return Attempts(options, Deadline(None), 60.0, **fields).timeout()

    assert first(replicas=1) == 60.0
    assert first(replicas=2) == 30.0
    assert first(replicas=9) == 20.0
    assert first(replicas=2, undivided=True) == 60.0
    assert first(reaas.ChannelOptions(attempt_timeout_s=5.0), replicas=1) == 5.0
    attempts = Attempts(ours, Deadline(None), 60.0, replicas=3)
    taken = []
    while (delay := attempts.delay(timed_out, attempts.timeout() or 0.0)) is not None:
        taken.append(attempts.timeout())
        assert delay > 0.25
    assert taken == [20.0, 20.0]
    said = reaas.DeadlineExceededError("the service's own word", reason="DEADLINE_EXCEEDED")
    assert Attempts(ours, Deadline(None), 60.0, replicas=3).delay(said, 1.0) is None


def test_the_number_of_replicas_is_read_off_the_target() -> None:
    def replicas(address: str) -> int:
        return reaas.Client(address)._session.endpoint(reaas.Service.ENCODER).replicas

    assert replicas("127.0.0.1:1") == replicas("[::1]:1") == replicas("unix:/run/x.sock") == 1
    assert replicas("ipv4:127.0.0.1:1,127.0.0.1:2,127.0.0.1:3") == 3
    assert replicas("ipv6:[::1]:1,[::1]:2") == 2
    assert replicas("localhost:1") == replicas("dns:///encoder.reaas.svc:1") == 2


def test_a_server_that_knows_no_ejection_is_still_asked(server: FakeServer) -> None:
    options = reaas.ChannelOptions(eject_s=0, load_balancing="pick_first")
    with reaas.Client(server.address, options=options) as client:
        assert len(client.encode(make_images(1), "fake")) == 1


def test_one_replica_is_never_ejected(make_client: Any, server: FakeServer, images: Any) -> None:
    client = make_client(server.address, options=reaas.ChannelOptions(retry_for_s=0))
    for _ in range(5):
        server.fail_next("INVALID_VALUE")
        with pytest.raises(reaas.InvalidArgumentError):
            client.encode(images, "fake")
    assert len(client.encode(images, "fake")) == len(images)
