"""A reply that breaks the contract is never used."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reaas
from reaas._tensor import to_tensor
from reaas.testing import FakeModel, FakeServer

from tests.sdk.samples import make_images


def _set(path: str, value: Any) -> Callable[[Any], Any]:
    """Sets one field of a reply."""

    def tamper(reply: Any) -> Any:
        *way, last = path.split(".")
        target = reply
        for step in way:
            target = target[int(step)] if step.isdigit() else getattr(target, step)
        setattr(target, last, value)
        return reply

    return tamper


def _apply(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def tamper(reply: Any) -> Any:
        change(reply)
        return reply

    return tamper


FOUR_FEATURES = to_tensor(np.zeros((4, 8), np.float32))
NAN_FEATURES = np.full((5, 8), np.nan, "<f4").tobytes()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_set("features.data", b"\0" * 159), "159 bytes"),
        (_set("features.data", b"\0" * 161), "161 bytes"),
        (_set("features.dtype", 3), "float64"),
        (_set("features.dtype", 99), "type 99"),
        (_apply(lambda r: r.features.shape.append(1)), "2 axes"),
        (_apply(lambda r: r.features.ClearField("shape")), "shape"),
        (_set("features.data", NAN_FEATURES), "not finite"),
        (_apply(lambda r: r.ClearField("features")), "type 0"),
        (_apply(lambda r: r.ClearField("model")), "name@version@digest"),
        (_set("model.digest", ""), "name@version@digest"),
        (
            _apply(lambda r: r.features.CopyFrom(FOUR_FEATURES)),
            "4 features for 5 inputs",
        ),
    ],
)
def test_broken_features_are_thrown_away(
    client: Any, server: FakeServer, images: Any, tamper: Any, message: str
) -> None:
    server.tamper = tamper
    with pytest.raises(reaas.ProtocolError, match=message):
        client.encode(images, "fake")


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_set("results.2.radius", -1.0), "radius is -1"),
        (_set("results.2.radius", math.nan), "radius is nan"),
        (_set("results.2.radius", math.inf), "radius is inf"),
        (_set("results.2.upper", 1e-9), "below radius"),
        (_set("results.2.upper", math.nan), "upper is nan"),
        (_set("results.2.method", 0), "names no bound"),
        (_set("results.2.method", 1), "names no bound"),
        (_set("results.2.method", 77), "names no bound"),
        (_apply(lambda r: r.results.pop()), "4 radii for 5 inputs"),
        (_apply(lambda r: r.results.add()), "6 radii for 5 inputs"),
        (_set("model.digest", ""), "name@version@digest"),
    ],
)
def test_broken_radii_are_thrown_away(
    client: Any, server: FakeServer, images: Any, tamper: Any, message: str
) -> None:
    server.tamper = tamper
    with pytest.raises(reaas.ProtocolError, match=message):
        client.perturb(images, np.ones(5), server.model.ref)


@pytest.mark.parametrize("field", ["model.name", "model.version", "model.digest"])
def test_an_answer_of_another_encoder_is_refused(
    client: Any, server: FakeServer, images: Any, field: str
) -> None:
    ref = server.model.ref
    server.tamper = _set(field, "another")
    with pytest.raises(reaas.DigestMismatchError, match="nothing was returned"):
        client.encode(images, ref)
    with pytest.raises(reaas.DigestMismatchError, match="nothing was returned"):
        client.perturb(images, np.ones(5), ref)


def test_an_encoder_that_changes_in_the_middle_of_a_batch_is_refused(make_client: Any) -> None:
    with FakeServer(max_batch_inputs=10) as server:
        client = make_client(server.address)
        replies: list[int] = []

        def swap_after_three(reply: Any) -> Any:
            replies.append(1)
            if len(replies) == 3:
                server.models = [FakeModel(seed=1)]
            return reply

        server.tamper = swap_after_three
        with pytest.raises(reaas.DigestMismatchError, match="in the middle of a batch"):
            client.encode(make_images(100), "fake")


def test_a_pinned_encoder_that_is_replaced_is_refused_by_the_service(
    client: Any, server: FakeServer, images: Any
) -> None:
    features = client.encode(images, "fake")
    server.models = [FakeModel(seed=1)]
    with pytest.raises(reaas.DigestMismatchError) as caught:
        client.perturb(images, np.ones(5), features.model)
    assert caught.value.field == "model.digest"
