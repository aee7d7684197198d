"""All arithmetic of a query follows the network's device: shown on a device made up for that."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from unittest import mock

import pytest
import torch
from reaas_bounds import MarginMethod, Method, Network, ReplicateChannels, certified_constants
from reaas_bounds.graph import network as network_module

from tests.device.elsewhere import NAME, Elsewhere, use_elsewhere
from tests.device.questions import Answer, ask, images, network_of

METHODS: list[Method | MarginMethod] = [*Method, *MarginMethod]
OPERATORS = [
    *("conv-depthwise", "prelu", "clip", "gelu"),
    *("max-pool", "group-sort", "concat", "resize-linear-any"),
]
SEARCHED: list[Method | MarginMethod] = [Method.LOCAL, Method.CROWN, MarginMethod.ENVELOPE]


@pytest.fixture(scope="module")
def away() -> Iterator[ProcessPoolExecutor]:
    """A process with the device: PyTorch keeps it for good, and other tests want none."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_settle) as pool:
        yield pool


def _settle() -> None:
    use_elsewhere()
    # The engine knows CPU and CUDA only.
    mock.patch.object(network_module, "prepare_device", torch.device).start()
    torch.set_num_threads(1)


def moved(name: str) -> Network:
    """The network with this name on the other device."""
    return network_of(name).to(torch.device(NAME, 0))


def ask_away(name: str, method: Method | MarginMethod) -> list[Answer]:
    """The questions to that network."""
    return ask(moved(name), method)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_every_method_answers_the_same(
    away: ProcessPoolExecutor, method: Method | MarginMethod
) -> None:
    assert away.submit(ask_away, "strided", method).result() == ask(network_of("strided"), method)


@pytest.mark.parametrize("name", ["grey", *OPERATORS])
def test_every_kind_of_map_and_function_follows(away: ProcessPoolExecutor, name: str) -> None:
    for method in SEARCHED:
        assert away.submit(ask_away, name, method).result() == ask(network_of(name), method)


def _moved_facts(name: str) -> tuple[bool, ...]:
    placed, network = moved(name), network_of(name)
    parts = [value for node in placed.folded.nodes for value in vars(node).values()]
    there = [isinstance(part, Elsewhere) for part in parts if isinstance(part, torch.Tensor)]
    features = placed.forward(images(placed).to(placed.device)).cpu()
    return (
        all(there) and len(there) > 0,
        torch.equal(features, network.forward(images(network))),
        certified_constants(placed) == certified_constants(network),
        placed.with_input([ReplicateChannels(3)]).device == placed.device,
        placed.to("cpu").device == torch.device("cpu"),
    )


def test_a_moved_network_is_the_same_encoder(away: ProcessPoolExecutor) -> None:
    assert away.submit(_moved_facts, "strided").result() == (True,) * 5


def _mixtures() -> list[str]:
    """Which mixtures of both devices pass."""
    here, there = torch.ones(3), torch.ones(3, device=torch.device(NAME, 0))
    attempts: dict[str, Callable[[], object]] = {
        "sum": lambda: here + there,
        "product": lambda: torch.outer(there, here),
        "expanded number": lambda: there * torch.ones(()).expand(3),
        "index": lambda: there[torch.tensor([0])],
        "numpy": lambda: there.numpy(),
        "inner tensor": lambda: torch.cat([there, here]),
        "number": lambda: there * torch.ones(()),
        "copy": lambda: there.cpu() + here,
    }
    passed = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except RuntimeError:
            continue
        passed.append(name)
    return passed


def test_the_device_of_these_tests_refuses_what_a_gpu_refuses(away: ProcessPoolExecutor) -> None:
    assert away.submit(_mixtures).result() == ["number", "copy"]
