"""Splitting and tensors, without a socket."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import reaas
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from reaas._model import Limits
from reaas._protocol import encode_batch, expected, message_bytes
from reaas._target import margins_batch, perturb_batch
from reaas._tensor import from_tensor, to_tensor
from reaas.testing import FakeServer

from tests.sdk.samples import make_images

DTYPES = st.sampled_from(["u1", "<f4", ">f4", "<f8", ">f8", "<i8", ">i8"])


def _limits(inputs: int, size: int) -> Limits:
    return Limits(inputs, size, 0, 0, 0, 0.0)


@given(
    n=st.integers(1, 300),
    inputs=st.integers(0, 50),
    size=st.integers(4400, 20_000),
    preferred=st.integers(1, 20_000),
    kind=st.sampled_from(["encode", "ball", "margins", "sets"]),
)
@settings(max_examples=150, deadline=None)
def test_every_message_keeps_the_limits_and_none_is_lost(
    n: int, inputs: int, size: int, preferred: int, kind: str
) -> None:
    images, model = make_images(n), reaas.ModelRef("fake", "1", "sha256:" + "0" * 64)
    numbers = np.arange(1.0, n + 1)
    normals = np.broadcast_to(numbers[:, None, None], (n, 3, 8))
    batch: Any
    if kind == "encode":
        batch = encode_batch(images, model)
    elif kind == "ball":
        batch = perturb_batch(images, numbers, model, "auto", 0, 0.0)
    elif kind == "margins":
        batch = margins_batch(model, "auto", 0, images, normals, normals[:, :, 0])
    else:
        sets = normals[:, None]
        batch = margins_batch(model, "auto", 0, images, sets, sets[..., 0], numbers[:, None])
    slices = batch.split(_limits(inputs, size), preferred)
    requests = [batch.request(part) for part in slices]
    sent = np.concatenate([from_tensor(r.inputs, np.uint8, 4, "inputs") for r in requests])
    np.testing.assert_array_equal(sent, images)
    counts = [expected(request).count for request in requests]
    assert max(counts) - min(counts) <= 1
    assert not inputs or max(counts) <= inputs
    assert all(message_bytes(request) <= size for request in requests)
    if kind == "margins":
        for name, ndim in (("normals", 3), ("offsets", 2)):
            parts = [from_tensor(getattr(r.margins, name), np.float64, ndim, "") for r in requests]
            sent = np.concatenate(parts)
            assert sent.shape[1:] == (3, 8)[: ndim - 1]
            np.testing.assert_array_equal(sent.reshape(n, -1)[:, 0], numbers)
    if kind == "sets":
        within = [from_tensor(r.margins.valid_within, np.float64, 2, "") for r in requests]
        np.testing.assert_array_equal(np.concatenate(within)[:, 0], numbers)
    if kind == "ball":
        sent_radii = [from_tensor(r.ball.radii, np.float64, 1, "radii") for r in requests]
        np.testing.assert_array_equal(np.concatenate(sent_radii), numbers)


@given(data=st.data(), dtype=DTYPES)
@settings(max_examples=80, deadline=None)
def test_a_tensor_comes_back_bit_for_bit(data: st.DataObject, dtype: str) -> None:
    shape = data.draw(npst.array_shapes(max_dims=4, max_side=5))
    array = data.draw(npst.arrays(np.dtype(dtype), shape))
    native = array.dtype.newbyteorder("=")
    back = from_tensor(to_tensor(array), native.type, array.ndim, "array")
    assert back.dtype == native
    assert back.astype(native).tobytes() == array.astype(native).tobytes()


def test_a_view_is_sent_as_it_looks() -> None:
    images = make_images(6)[::2, ::-1]
    np.testing.assert_array_equal(from_tensor(to_tensor(images), np.uint8, 4, "x"), images)


def test_as_many_messages_are_on_their_way_as_the_options_say(make_client: Any) -> None:
    together = threading.Barrier(3, timeout=30)

    def meet(reply: Any) -> Any:
        together.wait()
        return reply

    options = reaas.ChannelOptions(messages_in_flight=3)
    with FakeServer(max_batch_inputs=2) as server:
        server.tamper = meet  # Three replies leave together or none does.
        assert (
            len(make_client(server.address, options=options).encode(make_images(12), "fake")) == 12
        )


def test_tensors_of_other_types_are_a_mistake_of_this_package() -> None:
    with pytest.raises(KeyError):
        to_tensor(np.zeros(3, np.complex64))
