"""From a recipe to certified radii: all three services, one after the other and side by side."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from reaas.v1 import encoder_pb2, model_pb2
from reaas.v1 import pretrain_pb2 as pb
from reaas.v1.encoder_pb2_grpc import EncoderServiceStub
from reaas.v1.f2i_pb2_grpc import F2IServiceStub
from reaas_pretrain.service.run import Run, RunState
from reaas_runtime import DomainError, as_tensor

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import create, ended, get, refused, service
from tests.support.f2i import f2i_server, perturb_request
from tests.support.models import conv_encoder, manifest
from tests.support.models import publish as publish_version
from tests.support.servers import encoder_server, error_info

IMAGES = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)


def latest(name: str = "small") -> encoder_pb2.EncodeRequest:
    return encoder_pb2.EncodeRequest(model=model_pb2.ModelRef(name=name), inputs=as_tensor(IMAGES))


async def publish(stub: Any, run_id: str, version: str = "") -> pb.Run:
    request = pb.PublishRunRequest(run_id=run_id, version=version)
    reply: pb.PublishRunResponse = await stub.PublishRun(request)
    return reply.run


@pytest.mark.slow
async def test_from_a_recipe_to_certified_radii(house: Path, pictures: Path) -> None:
    """The second version is served when it is warm, the first one until then."""
    shutil.copytree(pictures, house / "data" / "pictures", dirs_exist_ok=True)
    async with service(house, threads=1) as (_, stub):
        spec = pb.RunSpec(recipe="small", dataset="pictures", epochs=1)
        run = await ended(stub, (await create(stub, spec)).id)
        assert run.state == pb.RUN_STATE_SUCCEEDED, run.reason
        first = (await publish(stub, run.id)).published.model
        assert (first.name, first.version) == ("small", "1")
        async with (
            encoder_server(house / "models") as encoder,
            f2i_server(house / "models") as f2i,
            grpc.aio.insecure_channel(encoder.address) as near,
            grpc.aio.insecure_channel(f2i.address) as far,
        ):
            features, radii = EncoderServiceStub(near), F2IServiceStub(far)
            assert (await features.Encode(latest())).model == first
            spec = pb.RunSpec(recipe="small", dataset="pictures", epochs=1, seed=2)
            other = await ended(stub, (await create(stub, spec)).id)
            publishing = asyncio.create_task(publish(stub, other.id))
            served: list[model_pb2.ModelRef] = []
            async with asyncio.timeout(120):
                while not served or served[-1] == first:
                    answer = await features.Encode(latest())
                    assert np.isfinite(np.frombuffer(answer.features.data, "<f4")).all()
                    served.append(answer.model)
                    await asyncio.sleep(0.05)
            second = (await publishing).published.model
            assert second.version == "2"
            assert second.digest != first.digest
            assert served[-1] == second
            async with asyncio.timeout(120):
                while True:
                    models = await radii.ListModels(model_pb2.ListModelsRequest())
                    if second in [model.model for model in models.models]:
                        break
                    await asyncio.sleep(0.05)
            for ref in (first, second):
                certified = await radii.Perturb(perturb_request(IMAGES, [0.5, 0.5], model=ref))
                assert certified.model == ref
                assert all(result.radius > 0 for result in certified.results)
            mixed = model_pb2.ModelRef(name="small", digest=first.digest)
            error = await refused(radii.Perturb(perturb_request(IMAGES, [0.5, 0.5], model=mixed)))
            assert error_info(error).reason == "DIGEST_MISMATCH"
        again = await asyncio.gather(*(publish(stub, run.id) for _ in range(3)))
        assert [answer.published.model for answer in again] == [first] * 3
        error = await refused(publish(stub, run.id, "7"))
        assert error_info(error).reason == "VERSION_EXISTS"
    async with service(house) as (_, stub):
        assert (await publish(stub, other.id)).published.model == second
    assert sorted(path.name for path in (house / "models" / "small").iterdir()) == ["1", "2"]
    assert not (house / "runs" / run.id / "export").exists()


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An export that writes a small encoder at once, another one for each seed of a run."""
    for seed in (0, 1):
        onnx = conv_encoder(seed)
        publish_version(tmp_path / str(seed), onnx, manifest(onnx, "small", "VERSION"))

    def commands(*_: Any) -> Any:
        def command(run: Run, repository: Path, version: str) -> list[str]:
            ready = tmp_path / str(run.spec.seed or 0) / "small" / "VERSION"
            to = f"{repository}/small/{version}"
            copy = f"mkdir -p {to}; cp {ready}/model.onnx {to}"
            name = f"sed 's/VERSION/{version}/' {ready}/manifest.json > {to}/manifest.json"
            return ["/bin/sh", "-c", f"{copy}; {name}; cat {repository.parent}/say; exit $?"]

        return command

    monkeypatch.setattr("reaas_pretrain.service.servicer.export_command", commands)


async def done(house: Path, stub: Any, seed: int = 0) -> Path:
    """Directory of a run that succeeded and whose export says nothing."""
    spec = pb.RunSpec(recipe="small", dataset="pictures", seed=seed)
    run = await ended(stub, (await create(stub, spec)).id)
    directory = house / "runs" / run.id
    (directory / "say").touch()
    return directory


@pytest.mark.usefixtures("export")
async def test_running_services_take_a_version_over(house: Path, script: Script) -> None:
    """Calls are answered throughout, by the old version until the new one is warm."""
    script("true")
    images = np.zeros((1, 8, 8, 3), np.uint8)
    request = encoder_pb2.EncodeRequest(
        model=model_pb2.ModelRef(name="small"), inputs=as_tensor(images.astype(np.float32))
    )
    async with service(house) as (_, stub):
        first = (await publish(stub, (await done(house, stub)).name)).published.model
        async with (
            encoder_server(house / "models") as encoder,
            f2i_server(house / "models") as f2i,
            grpc.aio.insecure_channel(encoder.address) as near,
            grpc.aio.insecure_channel(f2i.address) as far,
        ):
            features, radii = EncoderServiceStub(near), F2IServiceStub(far)
            old = await features.Encode(request)
            assert old.model == first
            directory = await done(house, stub, seed=1)
            second = (await publish(stub, directory.name)).published.model
            assert (second.version, second.digest != first.digest) == ("2", True)
            for served in (features, radii):
                async with asyncio.timeout(60):
                    models: list[model_pb2.ModelRef] = []
                    while second not in models:
                        answer = await features.Encode(request)
                        assert answer.model in (first, second)
                        if answer.model == first:
                            assert answer.features.data == old.features.data
                        listed = await served.ListModels(model_pb2.ListModelsRequest())
                        models = [model.model for model in listed.models]
                        assert first in models
            for ref in (first, second):
                certified = await radii.Perturb(perturb_request(images, [0.5], model=ref))
                assert certified.model == ref
            mixed = model_pb2.ModelRef(name="small", digest=first.digest)
            error = await refused(radii.Perturb(perturb_request(images, [0.5], model=mixed)))
            assert error_info(error).reason == "DIGEST_MISMATCH"


@pytest.mark.usefixtures("export")
async def test_versions_count_on_and_are_never_replaced(house: Path, script: Script) -> None:
    script("true")
    models = house / "models" / "small"
    for version in ("9", "10", "10-rc1", "old"):
        (models / version).mkdir(parents=True)
    async with service(house) as (_, stub):
        directory = await done(house, stub)
        error = await refused(publish(stub, directory.name, "old"))
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert not (await get(stub, directory.name)).HasField("published")
        run = await publish(stub, directory.name)
        assert run.published.model.version == "11"
        written = json.loads((models / "11" / "manifest.json").read_text())
        assert written["digest"] == run.published.model.digest


@pytest.mark.usefixtures("export")
async def test_an_export_that_fails_publishes_nothing(house: Path, script: Script) -> None:
    script("true")
    async with service(house) as (_, stub):
        directory = await done(house, stub)
        (directory / "say").unlink()
        error = await refused(publish(stub, directory.name))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert error_info(error).reason == "PUBLISH_FAILED"
        assert "No such file" in (error.details() or "")
        assert not list((house / "models").iterdir())
        (directory / "say").touch()
        assert (await publish(stub, directory.name)).published.model.version == "1"


@pytest.mark.usefixtures("export")
async def test_a_caller_who_leaves_does_not_stop_it(house: Path, script: Script) -> None:
    script("true")
    async with service(house) as (_, stub):
        directory = await done(house, stub)
        request = pb.PublishRunRequest(run_id=directory.name)
        error = await refused(stub.PublishRun(request, timeout=0.001))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await publish(stub, directory.name)).published.model.version == "1"
        assert [path.name for path in (house / "models" / "small").iterdir()] == ["1"]


@pytest.mark.usefixtures("export")
@pytest.mark.parametrize("moment", ["before the rename", "after the rename"])
async def test_a_service_that_dies_in_the_middle_publishes_once(
    house: Path, script: Script, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The intention is on disk: at the next start the version is found, or made."""
    script("true")
    after = moment == "after the rename"

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    async with service(house) as (server, stub):
        directory = await done(house, stub)
        with monkeypatch.context() as death:
            if after:
                save = server.servicer.store.save
                death.setattr(
                    server.servicer.store,
                    "save",
                    lambda run: save(run) if run.published is None else die(),
                )
            else:
                death.setattr(shutil, "copy2", die)
            with pytest.raises(Killed):
                await server.servicer.publisher._publish(directory.name, "")
        stored = server.servicer.store.get(directory.name)
        assert stored.state is RunState.SUCCEEDED
        assert stored.publishing is not None
    assert (house / "models" / "small" / "1").exists() is after
    async with service(house) as (_, stub):
        run = await publish(stub, directory.name)
        assert run.published.model.version == "1"
    assert [path.name for path in (house / "models" / "small").iterdir()] == ["1"]


@pytest.mark.usefixtures("export")
async def test_a_full_repository_is_told_and_has_nothing_half(
    house: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("true")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with service(house) as (_, stub):
        directory = await done(house, stub)
        with monkeypatch.context() as disk:
            disk.setattr(shutil, "copy2", full)
            error = await refused(publish(stub, directory.name))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error_info(error).reason == "STORAGE_FULL"
        assert not list((house / "models" / "small").iterdir())
        assert (await publish(stub, directory.name)).published.model.version == "1"


@pytest.mark.usefixtures("export")
async def test_two_versions_of_one_run_are_not_made(house: Path, script: Script) -> None:
    script("true")
    async with service(house) as (_, stub):
        directory = await done(house, stub)
        answers = await asyncio.gather(
            *(publish(stub, directory.name, version) for version in ("5", "6")),
            return_exceptions=True,
        )
        [refusal] = [a for a in answers if isinstance(a, grpc.aio.AioRpcError)]
        assert error_info(refusal).reason == "VERSION_EXISTS"
        assert len(list((house / "models" / "small").iterdir())) == 1


async def test_a_run_that_did_not_succeed_cannot_be_published(house: Path, script: Script) -> None:
    script("exit 1")
    async with service(house) as (server, stub):
        run = await ended(stub, (await create(stub)).id)
        with pytest.raises(DomainError, match="is FAILED"):
            await server.servicer.publisher.publish(run.id, "")
