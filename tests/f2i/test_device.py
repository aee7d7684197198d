"""The device of the F2I service: checked at start, said to callers and to Prometheus."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import torch
from pydantic import ValidationError
from reaas.v1 import model_pb2
from reaas.v1.f2i_pb2_grpc import F2IServiceStub
from reaas_f2i import F2ISettings
from reaas_f2i.__main__ import main

from tests.f2i.test_perturb import images
from tests.support.f2i import f2i_server, perturb_request
from tests.support.models import conv_encoder, publish
from tests.support.servers import scrape

without_cuda = pytest.mark.skipif(torch.version.cuda is not None, reason="this PyTorch has CUDA")
with_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "CUDA", "cpu:0", ""])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(ValidationError, match="device"):
        F2ISettings(allow_anonymous=True, device=device)


@without_cuda
def test_a_service_without_cuda_says_so_and_does_not_start(
    models_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"--models-dir={models_dir}", "--allow-anonymous", "--port=0", "--metrics-port=0"]
    assert main([*arguments, "--device=cuda"]) == 2
    assert "error: device cuda: this PyTorch" in capsys.readouterr().err


async def test_the_device_is_told(tmp_path: Path) -> None:
    publish(tmp_path, conv_encoder())
    async with f2i_server(tmp_path) as server:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            info = await F2IServiceStub(channel).GetInfo(model_pb2.GetInfoRequest())
        samples = await scrape(server)
    assert list(info.backends) == ["torch-cpu"]
    assert any("reaas_engine_info" in name and "provider=cpu" in name for name in samples)


@with_cuda
async def test_a_service_on_cuda_answers_as_one_on_the_cpu(tmp_path: Path) -> None:
    publish(tmp_path, conv_encoder())
    request, found = perturb_request(images(4), [0.2, 0.4, 0.6, 0.8]), []
    for device in ("cpu", "cuda"):
        async with (
            f2i_server(tmp_path, device=device) as server,
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        ):
            reply = await F2IServiceStub(channel).Perturb(request)
        found.append([result.radius for result in reply.results])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
