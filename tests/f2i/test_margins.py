"""Margins over a real socket: sound for the composed classifier, refusals, deadlines, meters."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
import torch
from numpy.typing import NDArray
from reaas.certify import DownstreamClassifier, MarginPlanes, margin_planes
from reaas.v1 import f2i_pb2, model_pb2, tensor_pb2
from reaas.v1.f2i_pb2_grpc import F2IServiceStub
from reaas_bounds import load_network
from reaas_f2i.patience import Patience
from reaas_runtime import FRAME_BYTES

from tests.bounds.attack import on_sphere
from tests.f2i.test_perturb import images, served_features
from tests.support.f2i import f2i_server, perturb_request, tensor
from tests.support.models import FEATURE_DIM, conv_encoder, publish
from tests.support.servers import error_info, scrape

METHODS = [
    f2i_pb2.METHOD_AUTO,
    f2i_pb2.METHOD_LIPSCHITZ,
    f2i_pb2.METHOD_ENVELOPE,
    f2i_pb2.METHOD_IBP,
    f2i_pb2.METHOD_CROWN,
]
CLASSES = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    root = tmp_path_factory.mktemp("models")
    publish(root, conv_encoder())
    async with f2i_server(root, max_margin_rows=16, max_margin_sets=6) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(server: Any) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield F2IServiceStub(channel)


pytestmark = pytest.mark.asyncio(loop_scope="module")


def pixels(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """As the services see them."""
    return batch.astype(np.float32) / np.float32(255)


def head(features: NDArray[np.float32], hidden: tuple[int, ...]) -> DownstreamClassifier:
    """A classifier with its borders through the middle of the features."""
    random, values = np.random.default_rng(3), features.astype(np.float64)
    weights, biases = [], []
    for width in (*hidden, CLASSES):
        weights.append(random.normal(size=(width, values.shape[1])) / np.sqrt(values.shape[1]))
        values = values @ weights[-1].T
        biases.append(-values.mean(axis=0))
        values = np.maximum(values + biases[-1], 0)
    return DownstreamClassifier(tuple(weights), tuple(biases))


def question(
    normals: Any, offsets: Any, within: Any = None, **fields: Any
) -> f2i_pb2.PerturbRequest:
    """A request about margins of as many images as there are normals."""
    normals, offsets = np.asarray(normals), np.asarray(offsets)
    count = min(len(normals), 64) or 1
    target = f2i_pb2.MarginTarget(
        normals=tensor(normals),
        offsets=tensor(offsets),
        valid_within=None if within is None else tensor(np.asarray(within, np.float64)),
    )
    return perturb_request(images(count), [1.0], **{"ball": None, "margins": target} | fields)


def of(planes: MarginPlanes, **fields: Any) -> f2i_pb2.PerturbRequest:
    return question(planes.normals, planes.offsets, planes.valid_within, **fields)


@pytest.fixture(scope="module", params=[(), (16,), (12, 10)], ids=["linear", "one", "two"])
def problem(request: pytest.FixtureRequest) -> tuple[DownstreamClassifier, MarginPlanes]:
    """A classifier and its planes around the features of `images(12)`."""
    features = served_features(pixels(images(12)))
    classifier = head(features, request.param)
    return classifier, margin_planes(classifier, features)


@pytest.mark.parametrize("method", METHODS)
async def test_no_attack_on_the_composed_classifier_beats_a_radius(
    stub: Any, problem: tuple[DownstreamClassifier, MarginPlanes], method: Any
) -> None:
    """PGD on every rival and random directions, judged by the features that clients get."""
    classifier, planes = problem
    results = (await stub.Perturb(of(planes, method=method))).results
    radii = np.array([result.radius for result in results])
    assert (radii > 0).sum() >= 9
    clean = pixels(images(12))
    for moved in attacks(clean, classifier, planes.labels, radii):
        distance = np.linalg.norm((moved - clean).reshape(12, -1).astype(np.float64), axis=1)
        inside = distance < radii
        labels = classifier.predict(served_features(moved))
        assert (labels == planes.labels)[inside].all()


async def test_the_attack_of_these_tests_finds_what_larger_radii_lose(
    problem: tuple[DownstreamClassifier, MarginPlanes], stub: Any
) -> None:
    classifier, planes = problem
    results = (await stub.Perturb(of(planes, method=f2i_pb2.METHOD_LIPSCHITZ))).results
    radii = 12 * np.array([result.radius for result in results])
    fallen = np.zeros(12, bool)
    for moved in attacks(pixels(images(12)), classifier, planes.labels, radii):
        fallen |= classifier.predict(served_features(moved)) != planes.labels
    assert fallen.sum() >= 6


def attacks(
    clean: NDArray[np.float32],
    classifier: DownstreamClassifier,
    labels: NDArray[np.int64],
    radii: NDArray[np.float64],
) -> list[NDArray[np.float32]]:
    """Moved images [n, h, w, c] for each rival and start, by the gradient of the whole chain."""
    network = load_network(conv_encoder())
    x = torch.from_numpy(clean.astype(np.float64).transpose(0, 3, 1, 2).copy())
    own, reach = torch.from_numpy(labels), torch.from_numpy(radii)
    generator = torch.Generator().manual_seed(0)
    found = [on_sphere(torch.randn(x.shape, generator=generator), reach) for _ in range(20)]
    for shift in range(1, CLASSES):
        rival = (own + shift) % CLASSES
        for start in (torch.zeros_like(x), torch.randn(x.shape, generator=generator).double()):
            delta = on_sphere(start, reach)
            for _ in range(25):
                point = (x + delta).requires_grad_()
                logits = scores(classifier, network.forward(point))
                each = torch.arange(len(x))
                margin = (logits[each, own] - logits[each, rival]).sum()
                slope = torch.autograd.grad(margin, point)[0]
                delta = on_sphere(0.3 * delta - on_sphere(slope, reach), reach)
            found.append(delta)
    return [(x + d).numpy().transpose(0, 2, 3, 1).astype(np.float32) for d in found]


def scores(classifier: DownstreamClassifier, features: torch.Tensor) -> torch.Tensor:
    """Logits [n, k], differentiable."""
    values = features
    layers = list(zip(classifier.weights, classifier.biases, strict=True))
    for weight, bias in layers[:-1]:
        values = torch.relu(values @ torch.tensor(weight).T + torch.tensor(bias))
    weight, bias = layers[-1]
    return values @ torch.tensor(weight).T + torch.tensor(bias)


async def test_auto_is_the_best_of_all_methods(
    stub: Any, problem: tuple[DownstreamClassifier, MarginPlanes]
) -> None:
    replies = {m: (await stub.Perturb(of(problem[1], method=m))).results for m in METHODS}
    found = {m: np.array([result.radius for result in reply]) for m, reply in replies.items()}
    for method in METHODS[1:3]:
        assert (found[f2i_pb2.METHOD_AUTO] >= found[method] * (1 - 1e-9)).all()
    for method in METHODS[1:]:
        by_rows = {result.method for result in replies[method] if not result.limited_by_ball}
        assert by_rows <= {method}
    auto = replies[f2i_pb2.METHOD_AUTO]
    assert f2i_pb2.METHOD_AUTO not in {result.method for result in auto}
    assert all(result.converged and result.upper == result.radius for result in auto)


async def test_same_query_same_answer_in_any_batch(
    stub: Any, problem: tuple[DownstreamClassifier, MarginPlanes]
) -> None:
    planes = problem[1]
    together = (await stub.Perturb(of(planes))).results
    for i in (0, 11):
        one = slice(i, i + 1)
        request = question(
            planes.normals[one],
            planes.offsets[one],
            planes.valid_within[one],
            inputs=tensor(images(12)[one]),
        )
        assert (await stub.Perturb(request)).results[0] == together[i]


async def test_margins_that_limit_nothing_or_are_lost(stub: Any) -> None:
    normals = np.zeros((2, 1, FEATURE_DIM))
    results = (await stub.Perturb(question(normals, [[1.0], [0.0]]))).results
    assert [result.radius for result in results] == [1e9, 0.0]


async def test_short_deadline_still_gives_certified_radii(stub: Any) -> None:
    random = np.random.default_rng(5)
    request = question(
        random.normal(size=(24, 3, FEATURE_DIM)), random.uniform(0.5, 3.0, size=(24, 3))
    )
    begun = time.monotonic()
    whole = (await stub.Perturb(request, timeout=250)).results
    hurried = (await stub.Perturb(request, timeout=0.5 * (time.monotonic() - begun))).results
    assert all(h.radius <= w.radius for h, w in zip(hurried, whole, strict=True))
    assert all(result.radius > 0 for result in hurried)
    assert not all(result.converged for result in hurried)


async def test_fewer_steps_are_taken_and_said(
    stub: Any, problem: tuple[DownstreamClassifier, MarginPlanes]
) -> None:
    search = f2i_pb2.SearchOptions(max_steps=1)
    results = (await stub.Perturb(of(problem[1], search=search))).results
    assert {result.steps for result in results} <= {0, 1}
    assert not all(result.converged for result in results)


async def test_queries_and_bytes_are_metered(stub: Any, server: Any) -> None:
    labels = "{api=f2iperturb,client=anonymous,model=tiny,phase=train,scheme=reaas}"
    request = question(np.ones((5, 2, FEATURE_DIM)), np.ones((5, 2)))
    reply = await stub.Perturb(request, metadata=(("x-reaas-phase", "train"),))
    samples = await scrape(server)
    assert samples[f"reaas_queries_total{labels}"] == 5
    assert samples[f"reaas_request_bytes_total{labels}"] == request.ByteSize() + FRAME_BYTES
    assert samples[f"reaas_response_bytes_total{labels}"] == reply.ByteSize() + FRAME_BYTES


async def test_sets_are_one_query_and_their_bytes_are_metered(stub: Any, server: Any) -> None:
    labels = "{api=f2iperturb,client=anonymous,model=tiny,phase=test,scheme=seaas}"
    request = question(np.ones((5, 4, 2, FEATURE_DIM)), np.ones((5, 4, 2)), np.ones((5, 4)))
    await stub.Perturb(request, metadata=(("x-reaas-scheme", "seaas"),))
    samples = await scrape(server)
    assert samples[f"reaas_queries_total{labels}"] == 5
    assert samples[f"reaas_request_bytes_total{labels}"] == request.ByteSize() + FRAME_BYTES


async def test_the_result_names_the_set_and_what_limits_it(stub: Any) -> None:
    """Rows that limit nothing: each set certifies what its ball does."""
    normals, offsets = np.zeros((2, 3, 1, FEATURE_DIM)), np.ones((2, 3, 1))
    offsets[1, 2] = -1.0
    within = np.array([[0.1, 0.2, 0.5], [0.1, 0.2, 0.5]])
    results = (await stub.Perturb(question(normals, offsets, within))).results
    assert [result.margin_set for result in results] == [2, 1]
    assert all(result.limited_by_ball for result in results)
    ball = perturb_request(images(2), [0.5, 0.2], method=f2i_pb2.METHOD_LIPSCHITZ)
    for found, known in zip(results, (await stub.Perturb(ball)).results, strict=True):
        assert found.radius >= known.radius * (1 - 1e-9)
        assert (known.margin_set, known.limited_by_ball) == (0, False)


async def test_info_names_the_limits_of_rows_and_sets(stub: Any) -> None:
    limits = (await stub.GetInfo(model_pb2.GetInfoRequest())).limits
    assert (limits.max_margin_rows, limits.max_margin_sets) == (16, 6)


SETS_N, SETS_M = np.ones((2, 2, 3, FEATURE_DIM)), np.ones((2, 2, 3))
GOOD_N, GOOD_M = np.ones((2, 3, FEATURE_DIM)), np.ones((2, 3))
CUT = tensor_pb2.Tensor(
    dtype=tensor_pb2.DATA_TYPE_FLOAT64, shape=(2, 3, FEATURE_DIM), data=bytes(8)
)
NORMALS, OFFSETS = "target.margins.normals", "target.margins.offsets"
WITHIN = "target.margins.valid_within"
CASES = {
    "row length": (question(GOOD_N[:, :, :7], GOOD_M), "INVALID_SHAPE", f"{NORMALS}.shape"),
    "flat": (question(GOOD_N[:, 0], GOOD_M), "INVALID_SHAPE", f"{NORMALS}.shape"),
    "no row": (question(GOOD_N[:, :0], GOOD_M[:, :0]), "INVALID_SHAPE", f"{NORMALS}.shape"),
    "rows": (
        question(np.ones((2, 17, FEATURE_DIM)), np.ones((2, 17))),
        "INVALID_SHAPE",
        f"{NORMALS}.shape",
    ),
    "other count": (
        question(GOOD_N, GOOD_M, inputs=tensor(images(3))),
        "INVALID_SHAPE",
        f"{NORMALS}.shape",
    ),
    "offsets count": (question(GOOD_N, GOOD_M[:, :2]), "INVALID_SHAPE", f"{OFFSETS}.shape"),
    "float32": (question(GOOD_N.astype(np.float32), GOOD_M), "INVALID_DTYPE", f"{NORMALS}.dtype"),
    "offsets float32": (
        question(GOOD_N, GOOD_M.astype(np.float32)),
        "INVALID_DTYPE",
        f"{OFFSETS}.dtype",
    ),
    "truncated": (
        question(
            GOOD_N,
            GOOD_M,
            margins=f2i_pb2.MarginTarget(normals=CUT, offsets=tensor(GOOD_M)),
        ),
        "INVALID_DATA_LENGTH",
        f"{NORMALS}.data",
    ),
    "NaN": (question(GOOD_N * np.nan, GOOD_M), "INVALID_VALUE", f"{NORMALS}.data"),
    "infinite": (question(GOOD_N, GOOD_M * np.inf), "INVALID_VALUE", f"{OFFSETS}.data"),
    "nothing": (
        question(GOOD_N, GOOD_M, margins=f2i_pb2.MarginTarget()),
        "INVALID_DTYPE",
        f"{NORMALS}.dtype",
    ),
    "no method": (question(GOOD_N, GOOD_M, method=99), "INVALID_METHOD", "method"),
    "sets": (
        question(np.ones((2, 7, 3, FEATURE_DIM)), np.ones((2, 7, 3))),
        "INVALID_SHAPE",
        f"{NORMALS}.shape",
    ),
    "rows of sets": (
        question(np.ones((2, 2, 17, FEATURE_DIM)), np.ones((2, 2, 17))),
        "INVALID_SHAPE",
        f"{NORMALS}.shape",
    ),
    "offsets of sets": (question(SETS_N, GOOD_M), "INVALID_SHAPE", f"{OFFSETS}.shape"),
    "ball without sets": (
        question(GOOD_N, GOOD_M, np.ones((2, 1))),
        "INVALID_SHAPE",
        f"{NORMALS}.shape",
    ),
    "balls of other sets": (
        question(SETS_N, SETS_M, np.ones((2, 3))),
        "INVALID_SHAPE",
        f"{WITHIN}.shape",
    ),
    "ball of radius 0": (
        question(SETS_N, SETS_M, np.zeros((2, 2))),
        "INVALID_RADIUS",
        f"{WITHIN}.data",
    ),
    "negative ball": (
        question(SETS_N, SETS_M, -np.ones((2, 2))),
        "INVALID_RADIUS",
        f"{WITHIN}.data",
    ),
    "ball NaN": (
        question(SETS_N, SETS_M, np.full((2, 2), np.nan)),
        "INVALID_RADIUS",
        f"{WITHIN}.data",
    ),
    "ball float32": (
        question(
            SETS_N,
            SETS_M,
            margins=f2i_pb2.MarginTarget(
                normals=tensor(SETS_N),
                offsets=tensor(SETS_M),
                valid_within=tensor(np.ones((2, 2), np.float32)),
            ),
        ),
        "INVALID_DTYPE",
        f"{WITHIN}.dtype",
    ),
    "steps": (
        question(GOOD_N, GOOD_M, search=f2i_pb2.SearchOptions(max_steps=61)),
        "INVALID_SEARCH",
        "search.max_steps",
    ),
    "a ball by envelope": (
        perturb_request(images(2), [1.0, 1.0], method=f2i_pb2.METHOD_ENVELOPE),
        "INVALID_METHOD",
        "method",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_bad_margins_name_their_field(stub: Any, case: Any) -> None:
    request, reason, field = case
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Perturb(request)
    info = error_info(caught.value)
    assert (caught.value.code(), info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert info.metadata["field"] == field
    assert info.metadata["limit"] or reason == "INVALID_DATA_LENGTH"
    assert (await stub.Perturb(question(GOOD_N, GOOD_M))).results[0].radius > 0


async def test_a_search_leaves_time_to_those_that_wait_for_it() -> None:
    far = time.monotonic() + 1000
    assert not Patience(far, expected_step=500)()
    assert Patience(far, expected_step=500, rounds=4)()
    assert not Patience(None, expected_step=500, rounds=4)()
