"""What CUDA is told before bounds are computed on it; where there is a GPU, what it answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from reaas_bounds import (
    DeviceError,
    InvalidQueryError,
    MarginMethod,
    Method,
    certified_constants,
    certify_ball,
    prepare_device,
)

from tests.bounds.attack import Effort, Served, attack_balls
from tests.device.questions import ask, images, network_of
from tests.support.models import conv_encoder

with_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SEARCHED = [Method.AUTO, Method.LOCAL, Method.CROWN]
METHODS: list[Method | MarginMethod] = [*Method, *MarginMethod]


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """Undo what the preparation of CUDA changes for the whole process."""
    cudnn, strict = torch.backends.cudnn.enabled, torch.are_deterministic_algorithms_enabled()
    precision = torch.get_float32_matmul_precision()
    with mock.patch.dict(os.environ):
        yield
    torch.backends.cudnn.enabled = cudnn
    torch.use_deterministic_algorithms(strict)
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def two_gpus() -> Iterator[None]:
    """As if there were two; nothing is computed on them."""
    with (
        mock.patch.object(torch.version, "cuda", "13.0"),
        mock.patch.object(torch.cuda, "device_count", return_value=2),
    ):
        yield


@pytest.mark.usefixtures("two_gpus")
def test_cuda_is_told_to_compute_in_ieee_and_repeatably() -> None:
    torch.set_float32_matmul_precision("high")
    assert prepare_device("cuda:1") == torch.device("cuda", 1)
    assert prepare_device("cuda") == torch.device("cuda", 0)
    assert not torch.backends.cudnn.enabled
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert os.environ["CUBLAS_EMULATE_DOUBLE_PRECISION"] == "0"


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    "variable", ["CUBLAS_EMULATE_DOUBLE_PRECISION", "CUBLAS_EMULATE_SINGLE_PRECISION"]
)
def test_emulated_products_are_refused(variable: str) -> None:
    os.environ[variable] = "1"
    with pytest.raises(DeviceError, match=f"{variable} is '1'"):
        prepare_device("cuda")


@pytest.mark.usefixtures("two_gpus")
def test_a_device_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(DeviceError, match=r"cuda:2: not found; .*cuda:0 to cuda:1"):
        prepare_device("cuda:2")


@pytest.mark.parametrize("name", ["mps", "gpu", "meta"])
def test_other_devices_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"{name}.*allowed: cpu, cuda, cuda:N"):
        prepare_device(name)


def test_the_cpu_changes_nothing() -> None:
    network = network_of("strided")
    assert network.to("cpu") is network
    assert not torch.are_deterministic_algorithms_enabled()


def test_questions_stay_on_the_cpu() -> None:
    network = network_of("strided")
    x = images(network).to("meta")
    radii = torch.ones(1, dtype=torch.float64)
    with pytest.raises(InvalidQueryError, match="inputs: must be on the CPU"):
        certify_ball(network, certified_constants(network), x, radii)


@with_cuda
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_cuda_certifies_what_the_cpu_does(method: Method | MarginMethod) -> None:
    """Up to a step of the search: effort is chosen in float32, whose last bits differ."""
    network = network_of("strided")
    expected, found = ask(network, method), ask(network.to("cuda"), method)
    assert [a.radius for a in found] == pytest.approx([a.radius for a in expected], rel=0.01)


@with_cuda
@pytest.mark.parametrize("method", SEARCHED, ids=str)
def test_the_same_bits_in_any_batch_and_again(method: Method) -> None:
    network = network_of("strided").to("cuda")
    constants, x = certified_constants(network), images(network, 5)
    radii = torch.linspace(0.05, 0.4, 5, dtype=torch.float64) * constants.lipschitz
    together = certify_ball(network, constants, x, radii, method)
    for i in range(5):
        one = slice(i, i + 1)
        assert certify_ball(network, constants, x[one], radii[one], method) == together[one]


@with_cuda
@pytest.mark.parametrize("method", SEARCHED, ids=str)
def test_no_attack_beats_a_radius_of_cuda(method: Method) -> None:
    network, served = network_of("strided"), Served(conv_encoder())
    placed, constants = network.to("cuda"), certified_constants(network)
    x = images(network, 8)
    wanted = torch.linspace(0.05, 0.4, 8, dtype=torch.float64) * constants.lipschitz
    answers = certify_ball(placed, constants, x, wanted, method)
    radii = torch.tensor([answer.radius for answer in answers], dtype=torch.float64)
    verdict = attack_balls(network, served, x, wanted, radii, Effort(steps=40, restarts=2))
    assert verdict.attacked.all()
    assert not verdict.beaten.any()
