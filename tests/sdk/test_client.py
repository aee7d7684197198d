"""Both clients against a fake server over a real socket."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reaas
from reaas.testing import FakeModel, FakeServer

from tests.sdk.samples import make_images, record_replies


def test_features_are_those_of_the_encoder(client: Any, server: FakeServer, images: Any) -> None:
    features = client.encode(images, "fake")
    assert features.model == server.model.ref
    assert features.values.dtype == np.float32
    np.testing.assert_array_equal(features.values, server.model.encode(images / 255.0))
    assert len(features) == len(images)


def test_float32_images_and_uint8_images_are_the_same_pixels(client: Any, images: Any) -> None:
    as_float = (images / 255.0).astype(np.float32)
    same = client.encode(as_float, "fake").values
    np.testing.assert_allclose(same, client.encode(images, "fake").values, rtol=1e-5, atol=1e-6)


def test_results_are_writable_arrays_of_their_own(client: Any, images: Any) -> None:
    client.encode(images, "fake").values[:] = 0


def test_radii_are_the_known_ones(client: Any, server: FakeServer, images: Any) -> None:
    feature_radii = np.linspace(0.1, 1.0, len(images))
    radii = client.perturb(images, feature_radii, server.model.ref)
    np.testing.assert_allclose(radii.radius, feature_radii / server.model.lipschitz, rtol=1e-4)
    assert (radii.radius <= feature_radii / server.model.lipschitz).all()
    assert radii.model == server.model.ref
    assert radii.method == ("lipschitz",) * len(images)
    assert radii.converged.all()
    assert (radii.upper >= radii.radius).all()
    assert radii.steps.tolist() == [1] * len(images)
    assert len(radii) == len(images)


@pytest.mark.parametrize("method", ["auto", "lipschitz", "crown", "ibp", reaas.Method.CROWN])
def test_every_method_can_be_asked_for(client: Any, server: FakeServer, method: str) -> None:
    radii = client.perturb(make_images(1), np.ones(1), server.model.ref, method)
    assert radii.method[0] == ("lipschitz" if method == "auto" else method)


def test_a_batch_is_split_by_the_limits_of_the_service(make_client: Callable[..., Any]) -> None:
    images = make_images(50)
    with FakeServer(max_batch_inputs=8) as server:
        client = make_client(server.address, server.address)
        replies = record_replies(server)
        features = client.encode(images, "fake")
        radii = client.perturb(images, np.ones(50), features.model)
        assert len(replies) == 14  # ceil(50 / 8), twice
    np.testing.assert_array_equal(features.values, server.model.encode(images / 255.0))
    assert radii.radius.shape == (50,)


def test_a_batch_is_split_by_bytes(make_client: Callable[..., Any]) -> None:
    images = make_images(1000)
    with FakeServer(max_request_bytes=10_000) as server:  # 123 of 48 bytes, less the header
        client = make_client(server.address)
        features = client.encode(images, "fake")
        assert server.meter.totals().queries == 1000
    np.testing.assert_array_equal(features.values, server.model.encode(images / 255.0))


def test_preferred_message_size_is_kept(server: FakeServer, make_client: Any) -> None:
    replies = record_replies(server)
    options = reaas.ChannelOptions(preferred_message_bytes=480)
    make_client(server.address, options=options).encode(make_images(100), "fake")
    assert len(replies) == 10


def test_a_perturb_message_holds_few_inputs_so_that_each_has_time(
    server: FakeServer, make_client: Any
) -> None:
    options = reaas.ChannelOptions(perturb_message_inputs=7)
    client = make_client(server.address, server.address, options=options)
    images = make_images(50)
    model = client.encode(images, "fake").model
    replies = record_replies(server)
    assert len(client.perturb(images, np.ones(50), model)) == 50
    assert max(len(reply.results) for reply in replies) == 7
    assert len(replies) == 8


def test_an_input_larger_than_a_message_may_be_is_refused_here(make_client: Any) -> None:
    with FakeServer(max_request_bytes=4100) as server:
        client = make_client(server.address)
        with pytest.raises(reaas.InvalidArgumentError, match=r"48 bytes.*at most 4100") as caught:
            client.encode(make_images(1), "fake")
    assert (caught.value.reason, caught.value.field) == ("BATCH_TOO_LARGE", "inputs")


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (np.zeros((1, 4, 4, 3)), "INVALID_DTYPE"),
        (np.zeros((1, 4, 4, 3), np.int64), "INVALID_DTYPE"),
        ([[1.0]], "INVALID_DTYPE"),
        (np.zeros(3, np.uint8), "INVALID_SHAPE"),
        (np.zeros((0, 4, 4, 3), np.uint8), "EMPTY_BATCH"),
        (np.zeros((2, 4, 0, 3), np.uint8), "EMPTY_BATCH"),
        (np.zeros((2, 5, 4, 3), np.uint8), "INVALID_SHAPE"),
        (np.full((1, 4, 4, 3), np.nan, np.float32), "INVALID_VALUE"),
        (np.full((1, 4, 4, 3), 17.0, np.float32), "INVALID_VALUE"),
    ],
)
def test_bad_inputs_are_named(client: Any, inputs: Any, reason: str) -> None:
    with pytest.raises(reaas.InvalidArgumentError) as caught:
        client.encode(inputs, "fake")
    assert caught.value.reason == reason
    assert caught.value.field.startswith("inputs")
    assert len(client.encode(make_images(1), "fake")) == 1


@pytest.mark.parametrize(
    "radii", [[1.0], [1.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [np.inf, 1.0], [[1.0, 1.0]]]
)
def test_bad_feature_radii_are_named(client: Any, server: FakeServer, radii: Any) -> None:
    with pytest.raises(reaas.InvalidArgumentError, match="feature_radii") as caught:
        client.perturb(make_images(2), np.array(radii), server.model.ref)
    assert caught.value.reason == "INVALID_RADIUS"


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c, x, m: c.perturb(x, np.ones(5), m, "best"), "method"),
        (lambda c, x, m: c.perturb(x, np.ones(5), m, max_steps=-1), "search.max_steps"),
        (lambda c, x, m: c.perturb(x, np.ones(5), reaas.ModelRef("fake")), "model.digest"),
        (lambda c, x, m: c.encode(x, m, phase="eval"), "phase"),
        (lambda c, x, m: c.with_scheme("paas"), "scheme"),
        (lambda c, x, m: c.info("pretrain"), "service"),
        (lambda c, x, m: c.encode(x, ""), "model"),
        (lambda c, x, m: c.encode(x, m, timeout=0), "timeout"),
        (lambda c, x, m: c.encode(x, m, timeout=float("nan")), "timeout"),
    ],
)
def test_bad_arguments_are_named(
    client: Any, server: FakeServer, images: Any, call: Callable[..., Any], field: str
) -> None:
    with pytest.raises(reaas.InvalidArgumentError) as caught:
        call(client, images, server.model.ref)
    assert caught.value.field == field


def test_a_version_can_be_asked_for(make_client: Any, images: Any) -> None:
    models = [FakeModel(version="1"), FakeModel(version="2", seed=1)]
    with FakeServer(models) as server:
        client = make_client(server.address)
        assert client.encode(images, "fake").model.version == "2"
        assert client.encode(images, "fake@1").model == models[0].ref
        assert client.encode(images, models[0].ref).model == models[0].ref
        assert client.model("fake").ref == models[1].ref
        assert client.model("fake@1").ref == models[0].ref
        assert [model.latest for model in client.models()] == [False, True]
        for missing in ("fake@3", "other"):
            with pytest.raises(reaas.ModelNotFoundError):
                client.encode(images, missing)
            with pytest.raises(reaas.ModelNotFoundError):
                client.model(missing)


def test_a_digest_that_is_not_served_is_refused(client: Any, images: Any) -> None:
    other = reaas.ModelRef("fake", "1", "sha256:00")
    with pytest.raises(reaas.DigestMismatchError) as caught:
        client.encode(images, other)
    assert caught.value.got == "sha256:00"
    with pytest.raises(reaas.DigestMismatchError):
        client.perturb(images, np.ones(5), other)


def test_models_and_info_tell_everything(client: Any, server: FakeServer) -> None:
    (model,) = client.models()
    assert model.ref == server.model.ref
    assert model.input.shape == (4, 4, 3)
    assert model.input.dtypes == ("uint8", "float32")
    assert model.input.resize is None
    assert model.feature_dim == 8
    assert model.constants.lipschitz == pytest.approx(2.0)
    assert model.manifest["training"] == {"seed": 0}
    info = client.info("f2i")
    assert info.service == "reaas.v1.F2IService"
    assert info.limits.max_batch_inputs == 1024
    assert info.limits.default_deadline_s == 60.0
    assert info.client_id == "anonymous"
    assert client.info().service == "reaas.v1.EncoderService"
    assert not client.ledger.entries()


def test_api_key_is_sent_and_checked(make_client: Any, images: Any) -> None:
    with FakeServer(api_keys={"secret": "phone"}) as server:
        known = make_client(server.address, api_key="secret")
        assert known.info().client_id == "phone"
        assert len(known.encode(images, "fake")) == 5
        for key in (None, "guess"):
            with pytest.raises(reaas.UnauthenticatedError):
                make_client(server.address, api_key=key).encode(images, "fake")


def test_a_client_with_one_service_says_so(server: FakeServer, make_client: Any) -> None:
    only_f2i = make_client(f2i=server.address)
    assert only_f2i.models()[0].ref == server.model.ref
    with pytest.raises(reaas.InvalidArgumentError, match="no address for the encoder"):
        only_f2i.encode(make_images(1), "fake")


def test_a_closed_client_says_so(server: FakeServer, images: Any) -> None:
    client = reaas.Client(server.address)
    client.encode(images, "fake")
    client.with_scheme("seaas").close()
    with pytest.raises(reaas.ReaasError, match="closed"):
        client.encode(images, "fake")


def test_a_call_under_way_when_the_client_is_closed_says_so(server: FakeServer) -> None:
    server.delay_s = 1.0
    client = reaas.Client(server.address)
    client.info()
    threading.Timer(0.2, client.close).start()
    with pytest.raises(reaas.ReaasError, match="closed"):
        client.encode(make_images(1), "fake")


async def test_an_asynchronous_call_under_way_when_the_client_is_closed_says_so(
    server: FakeServer,
) -> None:
    server.delay_s = 1.0
    client = reaas.AsyncClient(server.address)
    await client.info()
    call = asyncio.create_task(client.encode(make_images(1), "fake"))
    await asyncio.sleep(0.2)
    await client.close()
    with pytest.raises(reaas.ReaasError, match="closed"):
        await call


def test_a_client_that_is_closed_while_it_waits_to_try_again_says_so(server: FakeServer) -> None:
    client = reaas.Client(server.address, options=reaas.ChannelOptions(retry_for_s=60))
    client.info()
    server.fail_next("QUEUE_FULL", retry_after_s=1.0)
    threading.Timer(0.2, client.close).start()
    with pytest.raises(reaas.ReaasError, match="closed"):
        client.encode(make_images(1), "fake")


def test_an_asynchronous_client_stays_on_its_loop(server: FakeServer) -> None:
    client = reaas.AsyncClient(server.address)
    with asyncio.Runner() as first:
        first.run(client.info())
        with asyncio.Runner() as second, pytest.raises(reaas.ReaasError, match="event loop"):
            second.run(client.info())
        first.run(client.close())


def test_a_forked_client_says_so(client: Any, images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.encode(images, "fake")
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(reaas.ReaasError, match="fork"):
        client.encode(images, "fake")


def test_model_references_are_read_and_written() -> None:
    for text in ("moco", "moco@2", "moco@2@sha256:ab"):
        assert str(reaas.ModelRef.parse(text)) == text
    with pytest.raises(reaas.InvalidArgumentError):
        reaas.ModelRef.parse("@2")
