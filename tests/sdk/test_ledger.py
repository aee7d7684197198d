"""The client's account is the services' account."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import reaas
from reaas.testing import FakeServer

from tests.sdk.samples import make_images, record_replies


def test_ledger_equals_the_meter_in_every_label(client: Any, server: FakeServer) -> None:
    images = make_images(30)
    baseline = client.with_scheme("seaas")
    model = client.encode(images, "fake", phase="train").model
    client.perturb(images, np.ones(30), model)
    baseline.encode(images[:7], "fake")
    list(baseline.encode_stream([images, images[:3]], "fake", phase="train"))
    list(client.perturb_stream([(images, np.ones(30))], model))
    assert client.ledger.entries() == server.meter.entries()
    assert client.ledger is not server.meter
    assert {(k.api, k.scheme, k.phase): u.queries for k, u in client.ledger.entries().items()} == {
        ("feature", "reaas", "train"): 30,
        ("f2iperturb", "reaas", "test"): 60,
        ("feature", "seaas", "test"): 7,
        ("feature", "seaas", "train"): 33,
    }


def test_bytes_are_those_of_the_messages_and_their_frames(client: Any, server: FakeServer) -> None:
    replies = record_replies(server)
    client.encode(make_images(4), "fake")
    usage = client.ledger.totals(api="feature")
    assert usage.response_bytes == len(replies[0].SerializeToString()) + 5
    assert 4 * 48 < usage.request_bytes < 4 * 48 + 100
    assert usage.total_bytes == usage.request_bytes + usage.response_bytes


def test_only_answers_count(client: Any, server: FakeServer, images: Any) -> None:
    server.fail_next("QUEUE_FULL", count=2, retry_after_s=0.0)
    client.encode(images, "fake")
    server.fail_next("INTERNAL")
    with pytest.raises(reaas.ServerError):
        client.encode(images, "fake")
    assert client.ledger.totals().queries == len(images)
    assert client.ledger.entries() == server.meter.entries()


def test_totals_are_sums_over_what_matches(client: Any, images: Any) -> None:
    model = client.encode(images, "fake").model
    client.perturb(images, np.ones(5), model)
    both = client.ledger.totals(api="feature") + client.ledger.totals(api="f2iperturb")
    assert client.ledger.totals() == both
    assert client.ledger.totals(phase="train") == reaas.Usage()
    assert client.ledger.totals(model="fake", scheme="reaas", phase="test").queries == 10
    client.ledger.reset()
    assert client.ledger.totals() == reaas.Usage()


def test_threads_share_a_client(server: FakeServer) -> None:
    with reaas.Client(server.address) as client, ThreadPoolExecutor(8) as pool:
        batches = [make_images(3, seed) for seed in range(40)]
        answers = list(pool.map(lambda batch: client.encode(batch, "fake").values, batches))
        assert client.ledger.totals().queries == 120
        assert client.ledger.entries() == server.meter.entries()
    for batch, values in zip(batches, answers, strict=True):
        np.testing.assert_array_equal(values, server.model.encode(batch / 255.0))
