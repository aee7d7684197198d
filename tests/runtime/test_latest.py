"""A new version becomes the latest when every replica has it: no certification is lost or mixed."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reaas
import reaas_f2i.servicer
from reaas.v1.model_pb2 import ModelRef
from reaas_f2i.certifier import Certifier
from reaas_runtime import DomainError, ModelEntry, ModelRepository, Reason
from reaas_runtime.readiness import Marks, Peers

from tests.support.f2i import certified, f2i_server
from tests.support.models import SIZE, conv_encoder, manifest, publish
from tests.support.servers import encoder_server


def put(root: Path, version: str, seed: int) -> str:
    """Publish a version of "tiny"; its digest."""
    onnx = conv_encoder(seed)
    meta = manifest(onnx, version=version, certified=certified(onnx))
    publish(root, onnx, meta)
    return str(meta["digest"])


async def until(reached: Any, seconds: float = 60.0) -> None:
    """Return when `reached()` is true."""
    async with asyncio.timeout(seconds):
        while not reached():
            await asyncio.sleep(0.01)


class LateF2I:
    """Makes F2I's load of version 2 wait until it is released."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.released = threading.Event()
        self.asked = threading.Event()

        def late(entry: ModelEntry, *rest: Any) -> Certifier:
            if entry.manifest.version == "2":
                self.asked.set()
                assert self.released.wait(120)
            return Certifier(entry, *rest)

        patch.setattr(reaas_f2i.servicer, "Certifier", late)


def certify(client: reaas.Client, images: np.ndarray) -> str:
    """One certification as a client does it; the version that both services answered with."""
    features = client.encode(images, "tiny")
    asked = np.full(len(images), 0.1)
    radii = client.perturb(images, asked, features.model, reaas.Method.LIPSCHITZ)
    assert radii.model == features.model, "a mixed certificate"
    return features.model.version


async def certify_while_f2i_is_late(
    root: Path, late: LateF2I, certifications: int, late_s: float
) -> list[str]:
    """Versions of all certifications; version 2 appears after the first ones."""
    put(root, "1", seed=1)
    images = np.random.default_rng(0).random((1, SIZE, SIZE, 3), dtype=np.float32)
    versions: list[str] = []
    async with encoder_server(root) as encoder, f2i_server(root) as f2i:
        with reaas.Client(encoder.address, f2i.address) as client:

            async def some(count: int) -> None:
                for _ in range(count):
                    versions.append(await asyncio.to_thread(certify, client, images))

            await some(certifications // 4)
            put(root, "2", seed=2)
            await until(late.asked.is_set)
            begun = time.monotonic()
            await some(certifications // 2)
            await asyncio.sleep(max(0.0, late_s - (time.monotonic() - begun)))
            assert set(versions) == {"1"}, "the encoder went ahead alone"
            late.released.set()
            async with asyncio.timeout(60):
                while await asyncio.to_thread(certify, client, images) != "2":
                    await asyncio.sleep(0.01)
            await some(certifications // 4)
    return versions


async def test_no_certification_fails_while_f2i_is_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = await certify_while_f2i_is_late(tmp_path, LateF2I(monkeypatch), 200, 1.0)
    assert versions == sorted(versions), "it went back"
    assert set(versions) == {"1", "2"}


@pytest.mark.slow
async def test_no_certification_of_many_fails_while_f2i_is_20_s_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = await certify_while_f2i_is_late(tmp_path, LateF2I(monkeypatch), 20_000, 20.0)
    assert len(versions) == 20_000
    assert versions == sorted(versions)


async def test_a_version_that_another_cannot_load_waits_no_longer_than_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateF2I(monkeypatch)
    put(tmp_path, "1", seed=1)
    async with encoder_server(tmp_path, latest_wait_s=0.5) as encoder, f2i_server(tmp_path):
        put(tmp_path, "2", seed=2)
        with reaas.Client(encoder.address, None) as client:

            def latest() -> str:
                found = client.encode(np.zeros((1, SIZE, SIZE, 3), np.float32), "tiny")
                return found.model.version

            async with asyncio.timeout(60):
                while await asyncio.to_thread(latest) != "2":
                    await asyncio.sleep(0.05)
        late.released.set()


async def test_f2i_says_not_ready_of_a_version_that_the_encoder_has_answered_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = LateF2I(monkeypatch)
    put(tmp_path, "1", seed=1)
    async with f2i_server(tmp_path) as f2i:
        digest = put(tmp_path, "2", seed=2)
        await until(late.asked.is_set)
        ref = ModelRef(name="tiny", version="2", digest=digest)
        with pytest.raises(DomainError) as refused:
            f2i.servicer.repository.resolve(ref)
        assert refused.value.reason is Reason.NOT_READY
        assert refused.value.retry_after_s
        late.released.set()


def loaded(root: Path) -> ModelRepository[str]:
    repository = ModelRepository(root, lambda entry: entry.manifest.version, latest_wait_s=60.0)
    repository.refresh()
    return repository


def test_a_version_that_is_not_on_the_disk_is_looked_for_once(tmp_path: Path) -> None:
    put(tmp_path, "1", seed=1)
    repository = loaded(tmp_path)
    ref = ModelRef(name="tiny", version="2", digest="sha256:" + "0" * 64)
    reasons = []
    for _ in range(2):
        with pytest.raises(DomainError) as refused:
            repository.resolve(ref)
        reasons.append((refused.value.reason, refused.value.retry_after_s))
        assert repository.missed == (refused.value.reason is Reason.NOT_READY)
        repository.refresh()
    assert reasons == [(Reason.NOT_READY, 1.0), (Reason.MODEL_NOT_FOUND, 1.0)]


def test_the_latest_never_moves_back_while_it_is_served(tmp_path: Path) -> None:
    put(tmp_path, "1", seed=1)
    second = put(tmp_path, "2", seed=2)
    repository = loaded(tmp_path)
    has_both = Peers((frozenset({(("tiny", "2"), second)}),))
    repository.agree(has_both)
    assert latest(repository) == "2"
    repository.agree(Peers((frozenset(),)))  # A replica that has nothing has joined.
    assert latest(repository) == "2"


def test_a_replica_that_begins_agrees_with_those_that_are_there(tmp_path: Path) -> None:
    first = put(tmp_path, "1", seed=1)
    put(tmp_path, "2", seed=2)
    repository = loaded(tmp_path)
    repository.agree(Peers((frozenset({(("tiny", "1"), first)}),)))
    assert latest(repository) == "1"


def latest(repository: ModelRepository[str]) -> str:
    found = repository.latest("tiny")
    assert found is not None
    return found.model


def test_marks_of_replicas_that_are_gone_do_not_count(tmp_path: Path) -> None:
    here, there = Marks(tmp_path, "Encoder"), Marks(tmp_path, "F2I")
    key, digest = ("tiny", "1"), "sha256:1"
    there.exchange({}, starting=False)
    assert not here.exchange({key: digest}, starting=False).have(key, digest)
    [mark] = tmp_path.glob("F2I-*.json")
    old = time.time() - 100
    os.utime(mark, (old, old))
    assert here.exchange({key: digest}, starting=False).have(key, digest)
    there.exchange({}, starting=True)  # One that starts is sent no clients.
    assert here.exchange({key: digest}, starting=False).have(key, digest)
    there.exchange({key: digest}, starting=False)
    assert here.exchange({}, starting=False).have(key, digest)
    there.remove()
    assert not list(tmp_path.glob("F2I-*"))


@pytest.mark.parametrize("content", ["", "[]", "{", '{"versions": 3}', "x" * 2_000_000])
def test_a_mark_that_is_none_is_passed_over(content: str, tmp_path: Path) -> None:
    (tmp_path / "Encoder-other.json").write_text(content)
    assert Marks(tmp_path, "F2I").exchange({}, starting=False) == Peers()


def test_a_volume_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    marks = Marks(tmp_path / "file" / "below", "F2I")
    assert marks.exchange({("tiny", "1"): "sha256:1"}, starting=False) == Peers()


def test_a_mark_says_what_is_warm(tmp_path: Path) -> None:
    Marks(tmp_path, "F2I").exchange({("tiny", "1"): "sha256:1"}, starting=False)
    [mark] = tmp_path.glob("F2I-*.json")
    assert json.loads(mark.read_text()) == {"starting": False, "versions": {"tiny/1": "sha256:1"}}
