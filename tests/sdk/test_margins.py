"""Margins through both clients: the known radii, typed errors, the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reaas
from reaas.testing import FakeServer

from tests.sdk.samples import make_images, record_replies

Call = Callable[[Any, Any, Any], Any]


def planes(n: int, rows: int = 3, seed: int = 0) -> tuple[Any, Any]:
    """Random normals [n, rows, 8] and positive offsets [n, rows]."""
    random = np.random.default_rng(seed)
    return random.normal(size=(n, rows, 8)), random.uniform(0.1, 2.0, size=(n, rows))


@pytest.mark.parametrize("method", ["auto", "lipschitz", "envelope", "crown", reaas.Method.IBP])
def test_radii_are_the_known_ones(
    client: Any, server: FakeServer, images: Any, method: str
) -> None:
    normals, offsets = planes(len(images))
    radii = client.perturb_margins(images, normals, offsets, server.model.ref, method)
    pulled = np.linalg.norm(normals @ server.model.weights, axis=2)
    exact = (offsets / pulled).min(axis=1)
    np.testing.assert_allclose(radii.radius, exact, rtol=1e-4)
    assert (radii.radius <= exact).all()
    assert set(radii.method) == {"lipschitz" if method == "auto" else method}
    assert (radii.upper == radii.radius).all()
    assert radii.model == server.model.ref


def test_a_margin_that_is_lost_already_certifies_nothing(client: Any, server: FakeServer) -> None:
    normals, offsets = planes(2)
    offsets[0, 1], offsets[1] = -0.1, 0.0
    radii = client.perturb_margins(make_images(2), normals, offsets, server.model.ref)
    assert radii.radius.tolist() == [0.0, 0.0]


def test_margins_that_limit_nothing_have_a_finite_radius(client: Any, server: FakeServer) -> None:
    radii = client.perturb_margins(
        make_images(1), np.zeros((1, 2, 8)), np.ones((1, 2)), server.model.ref
    )
    assert radii.radius.tolist() == [1e9]


def test_a_batch_is_split_by_what_the_margins_weigh(make_client: Callable[..., Any]) -> None:
    normals, offsets = planes(40, rows=100)  # 7,200 bytes an input, beside 48 of pixels
    with FakeServer(max_request_bytes=40_000) as server:
        client = make_client(server.address, server.address)
        replies = record_replies(server)
        radii = client.perturb_margins(make_images(40), normals, offsets, server.model.ref)
    assert len(replies) >= 10
    assert len(radii) == 40
    with FakeServer() as whole:
        client = make_client(whole.address, whole.address)
        same = client.perturb_margins(make_images(40), normals, offsets, whole.model.ref)
    assert radii.radius.tolist() == same.radius.tolist()


def test_ledger_equals_the_meter(client: Any, server: FakeServer) -> None:
    client.perturb_margins(make_images(9), *planes(9), server.model.ref)
    assert client.ledger.entries() == server.meter.entries()
    usage = client.ledger.totals(api="f2iperturb")
    assert usage.queries == 9
    assert usage.request_bytes > 9 * (48 + 3 * 8 * 8 + 3 * 8)


def sets(n: int, of_each: int, rows: int = 3) -> tuple[Any, Any, Any]:
    """Normals [n, s, rows, 8], offsets [n, s, rows] and radii [n, s] within which they hold."""
    random = np.random.default_rng(7)
    shape = (n, of_each, rows)
    within = random.uniform(0.1, 2.0, size=shape[:2])
    return random.normal(size=(*shape, 8)), random.uniform(0.1, 2.0, size=shape), within


def test_several_sets_certify_what_the_best_of_them_does(
    client: Any, server: FakeServer, images: Any
) -> None:
    normals, offsets, within = sets(len(images), 4)
    within[:, 2] = np.inf
    ref = server.model.ref
    together = client.perturb_margins(images, normals, offsets, ref, valid_within=within)
    alone = [
        client.perturb_margins(
            images,
            normals[:, [k]],
            offsets[:, [k]],
            ref,
            valid_within=within[:, [k]],
        ).radius
        for k in range(4)
    ]
    np.testing.assert_array_equal(together.radius, np.max(alone, axis=0))
    np.testing.assert_array_equal(together.margin_set, np.argmax(alone, axis=0))
    assert client.ledger.totals(api="f2iperturb").queries == 5 * len(images)


def test_a_set_certifies_no_more_than_its_ball(client: Any, server: FakeServer) -> None:
    normals, offsets, _ = sets(1, 2)
    images, ref = make_images(1), server.model.ref
    free = client.perturb_margins(images, normals, offsets, ref)
    for within, by_ball in ((1e-3, True), (1e3, False)):
        rho = np.full((1, 2), within)
        held = client.perturb_margins(images, normals, offsets, ref, valid_within=rho)
        assert held.limited_by_ball.tolist() == [by_ball]
        assert held.radius[0] <= within / server.model.lipschitz
        assert (held.radius[0] == free.radius[0]) != by_ball
    ball = client.perturb(images, np.array([1e-3]), ref)
    assert ball.limited_by_ball.tolist() == [False]
    assert ball.margin_set.tolist() == [0]


def test_margins_come_over_a_stream(client: Any, server: FakeServer) -> None:
    one, two = make_images(3), make_images(5)
    batches = [(one, *planes(3)), (two, *sets(5, 2)), (two, *planes(5), None)]
    answers = list(client.perturb_margins_stream(batches, server.model.ref, "lipschitz"))
    normals, offsets, within = sets(5, 2)
    ref = server.model.ref
    same = client.perturb_margins(two, normals, offsets, ref, valid_within=within)
    assert [len(answer) for answer in answers] == [3, 5, 5]
    assert answers[1].radius.tolist() == same.radius.tolist()


def test_bytes_of_sets_are_counted(make_client: Callable[..., Any]) -> None:
    normals, offsets, within = sets(20, 4, rows=50)  # 14,432 bytes an input
    with FakeServer(max_request_bytes=40_000) as server:
        client = make_client(server.address, server.address)
        replies = record_replies(server)
        ref = server.model.ref
        client.perturb_margins(make_images(20), normals, offsets, ref, valid_within=within)
        assert len(replies) >= 7
        assert client.ledger.entries() == server.meter.entries()
        assert client.ledger.totals(api="f2iperturb").queries == 20


BAD: dict[str, tuple[Call, str, str]] = {
    "no digest": (
        lambda c, x, m: c.perturb_margins(x, *planes(5), reaas.ModelRef("fake")),
        "",
        "model.digest",
    ),
    "unknown method": (
        lambda c, x, m: c.perturb_margins(x, *planes(5), m, "best"),
        "INVALID_METHOD",
        "method",
    ),
    "method of margins": (
        lambda c, x, m: c.perturb(x, np.ones(5), m, "envelope"),
        "INVALID_METHOD",
        "method",
    ),
    "steps": (
        lambda c, x, m: c.perturb_margins(x, *planes(5), m, max_steps=-1),
        "INVALID_SEARCH",
        "search.max_steps",
    ),
    "too few normals": (
        lambda c, x, m: c.perturb_margins(x, *planes(4), m),
        "INVALID_SHAPE",
        "normals",
    ),
    "flat normals": (
        lambda c, x, m: c.perturb_margins(x, np.ones((5, 8)), np.ones(5), m),
        "INVALID_SHAPE",
        "normals",
    ),
    "no rows": (
        lambda c, x, m: c.perturb_margins(x, *planes(5, rows=0), m),
        "INVALID_SHAPE",
        "normals",
    ),
    "too few offsets": (
        lambda c, x, m: c.perturb_margins(x, planes(5)[0], np.ones((5, 2)), m),
        "INVALID_SHAPE",
        "offsets",
    ),
    "normals not finite": (
        lambda c, x, m: c.perturb_margins(x, np.inf * planes(5)[0], np.ones((5, 3)), m),
        "INVALID_VALUE",
        "normals",
    ),
    "offsets not finite": (
        lambda c, x, m: c.perturb_margins(x, planes(5)[0], np.full((5, 3), np.nan), m),
        "INVALID_VALUE",
        "offsets",
    ),
    "balls without sets": (
        lambda c, x, m: c.perturb_margins(x, *planes(5), m, valid_within=np.ones((5, 1))),
        "INVALID_SHAPE",
        "normals",
    ),
    "balls of other sets": (
        lambda c, x, m: c.perturb_margins(x, *sets(5, 2)[:2], m, valid_within=np.ones((5, 3))),
        "INVALID_SHAPE",
        "valid_within",
    ),
    "a ball of radius 0": (
        lambda c, x, m: c.perturb_margins(x, *sets(5, 2)[:2], m, valid_within=np.zeros((5, 2))),
        "INVALID_VALUE",
        "valid_within",
    ),
    "a negative ball": (
        lambda c, x, m: c.perturb_margins(x, *sets(5, 2)[:2], m, valid_within=-np.ones((5, 2))),
        "INVALID_VALUE",
        "valid_within",
    ),
    "a ball that is no number": (
        lambda c, x, m: c.perturb_margins(
            x, *sets(5, 2)[:2], m, valid_within=np.full((5, 2), np.nan)
        ),
        "INVALID_VALUE",
        "valid_within",
    ),
    "more sets than the service takes": (
        lambda c, x, m: c.perturb_margins(x, *sets(5, 17)[:2], m),
        "INVALID_SHAPE",
        "target.margins.normals.shape",
    ),
    "of another encoder": (
        lambda c, x, m: c.perturb_margins(x, np.ones((5, 2, 7)), np.ones((5, 2)), m),
        "INVALID_SHAPE",
        "target.margins.normals.shape",
    ),
    "more rows than the service takes": (
        lambda c, x, m: c.perturb_margins(x, *planes(5, rows=513), m),
        "INVALID_SHAPE",
        "target.margins.normals.shape",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_margins_are_named(
    client: Any, server: FakeServer, images: Any, case: tuple[Call, str, str]
) -> None:
    call, reason, field = case
    with pytest.raises(reaas.InvalidArgumentError) as caught:
        call(client, images, server.model.ref)
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_the_service_says_how_many_margins_it_takes(client: Any) -> None:
    limits = client.info("f2i").limits
    assert (limits.max_margin_rows, limits.max_margin_sets) == (512, 16)
