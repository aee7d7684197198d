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


@pytest.mark.parametrize("method", ["auto", "lipschitz", "envelope", reaas.Method.ENVELOPE])
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


BAD: dict[str, tuple[Call, str, str]] = {
    "no digest": (
        lambda c, x, m: c.perturb_margins(x, *planes(5), reaas.ModelRef("fake")),
        "",
        "model.digest",
    ),
    "method of balls": (
        lambda c, x, m: c.perturb_margins(x, *planes(5), m, "crown"),
        "INVALID_METHOD",
        "method",
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
    assert client.info("f2i").limits.max_margin_rows == 512
