from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog
from reaas.v1.model_pb2 import ModelRef
from reaas_runtime import DomainError, ModelEntry, ModelRepository, Reason, digest_of
from reaas_runtime.repository import natural_order

from tests.support.models import conv_encoder, manifest, publish

ONNX = conv_encoder()


def digest_loader(entry: ModelEntry) -> str:
    return digest_of(entry.onnx)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def refreshed(root: Path) -> ModelRepository[str]:
    repository = ModelRepository(root, digest_loader)
    repository.refresh()
    return repository


def reason_of(repository: ModelRepository[Any], **ref: str) -> tuple[Reason, str]:
    with pytest.raises(DomainError) as refused:
        repository.resolve(ModelRef(**ref))
    return refused.value.reason, refused.value.message


def test_several_models_and_versions(root: Path) -> None:
    for name, version in [("a", "2"), ("a", "10"), ("a", "9-rc1"), ("b", "1")]:
        publish(root, ONNX, manifest(ONNX, name, version))
    repository = refreshed(root)
    assert repository.resolve(ModelRef(name="a")).entry.ref.version == "10"
    assert repository.resolve(ModelRef(name="a", version="2")).entry.ref.version == "2"
    served = [(s.entry.ref.name, s.entry.ref.version) for s in repository.served()]
    assert served == [("a", "2"), ("a", "9-rc1"), ("a", "10"), ("b", "1")]


def test_natural_order() -> None:
    shuffled = ["10", "v10", "2.10", "2", "v2", "2-rc1", "1", "2.1", "v1"]
    ordered = ["1", "2", "2-rc1", "2.1", "2.10", "10", "v1", "v2", "v10"]
    assert sorted(shuffled, key=natural_order) == ordered


def test_refusals_name_what_there_is(root: Path) -> None:
    publish(root, ONNX)
    repository = refreshed(root)
    assert reason_of(repository)[0] is Reason.MODEL_NAME_MISSING
    reason, message = reason_of(repository, name="nope")
    assert reason is Reason.MODEL_NOT_FOUND
    assert "'nope'" in message
    assert "tiny/1" in message
    assert reason_of(repository, name="tiny", version="7")[0] is Reason.MODEL_NOT_FOUND
    assert reason_of(repository, name="../../etc", version="..")[0] is Reason.MODEL_NOT_FOUND
    reason, message = reason_of(repository, name="tiny", digest="sha256:" + "0" * 64)
    assert reason is Reason.DIGEST_MISMATCH
    assert digest_of(ONNX) in message
    assert repository.resolve(ModelRef(name="tiny", digest=digest_of(ONNX))).model


def test_before_the_first_look_the_answer_is_come_back(root: Path) -> None:
    assert reason_of(ModelRepository(root, digest_loader), name="a")[0] is Reason.NOT_READY


def broken_manifests() -> dict[str, tuple[Any, str]]:
    good = manifest(ONNX)
    deep = json.loads(json.dumps(good))
    deep["certified"]["lipshitz"] = 1.0
    nan = json.dumps(good).replace("100.0", "NaN")
    return {
        "lying digest": (good | {"digest": "sha256:" + "1" * 64}, "but model.onnx is sha256:"),
        "malformed digest": (good | {"digest": "abc"}, "digest: String should match pattern"),
        "unknown key": (good | {"colour": "red"}, "colour: Extra inputs are not permitted"),
        "misspelt key": (deep, "certified.lipshitz: Extra inputs are not permitted"),
        "missing key": ({k: v for k, v in good.items() if k != "feature"}, "feature: Field req"),
        "other name": (good | {"name": "other"}, "the manifest says 'other'"),
        "other version": (good | {"version": "2"}, "the manifest says 'tiny' version '2'"),
        "newer schema": (good | {"schema": 2}, "schema: Input should be 1"),
        "not json": ("{", "manifest.json is not valid"),
        "not finite": (nan, "certified.lipschitz"),
        "ranges": (
            good | {"input": good["input"] | {"accepted_range": [0.5, 1.0]}},
            "inside accepted_range",
        ),
        "huge": (" " * (1 << 20) + json.dumps(good), "longer than"),
    }


@pytest.mark.parametrize("case", broken_manifests())
def test_a_broken_version_is_reported_and_leaves_the_others_alone(root: Path, case: str) -> None:
    text, why = broken_manifests()[case]
    publish(root, ONNX, manifest(ONNX, "good"))
    directory = publish(root, ONNX)
    body = text if isinstance(text, str) else json.dumps(text)
    (directory / "manifest.json").write_text(body)
    with structlog.testing.capture_logs() as logs:
        repository = refreshed(root)
    assert repository.resolve(ModelRef(name="good")).model
    for ref in ({"name": "tiny"}, {"name": "tiny", "version": "1"}):
        reason, message = reason_of(repository, **ref)
        assert reason is Reason.MODEL_BROKEN
        assert why in message
    assert [log["model"] for log in logs if log["event"] == "model refused"] == ["tiny"]


def test_missing_files_and_failing_loaders(root: Path) -> None:
    publish(root, ONNX, manifest(ONNX, "a"))
    (publish(root, ONNX, manifest(ONNX, "b")) / "model.onnx").unlink()
    publish(root, ONNX, manifest(ONNX, "c"))

    def load(entry: ModelEntry) -> str:
        if entry.manifest.name == "c":
            raise DomainError(Reason.UNSUPPORTED_OPERATOR, "operator 'Foo' is not known")
        if entry.manifest.name == "a":
            raise MemoryError("/secret/path")
        raise AssertionError

    repository = ModelRepository(root, load)
    with structlog.testing.capture_logs():
        repository.refresh()
    reason, message = reason_of(repository, name="a")
    assert reason is Reason.MODEL_BROKEN
    assert "MemoryError" in message
    assert "/secret" not in message
    assert "No such file" in reason_of(repository, name="b")[1]
    assert reason_of(repository, name="c")[0] is Reason.UNSUPPORTED_OPERATOR


def test_a_broken_version_heals_when_its_files_change(root: Path) -> None:
    directory = publish(root, ONNX)
    (directory / "model.onnx").write_bytes(ONNX[:-1])  # as if the copy were still under way
    repository = refreshed(root)
    assert reason_of(repository, name="tiny")[0] is Reason.MODEL_BROKEN
    (directory / "model.onnx").write_bytes(ONNX)
    repository.refresh()
    assert repository.resolve(ModelRef(name="tiny")).model == digest_of(ONNX)


def test_the_old_version_serves_until_the_new_one_is_warm(root: Path) -> None:
    publish(root, ONNX)
    warming, warm = threading.Event(), threading.Event()

    def load(entry: ModelEntry) -> str:
        if entry.manifest.version == "2":
            warming.set()
            assert warm.wait(30)
        return entry.manifest.version

    repository = ModelRepository(root, load)
    repository.refresh()
    publish(root, ONNX, manifest(ONNX, version="2"))
    refresh = threading.Thread(target=repository.refresh)
    refresh.start()
    assert warming.wait(30)
    assert repository.resolve(ModelRef(name="tiny")).model == "1"
    warm.set()
    refresh.join()
    assert repository.resolve(ModelRef(name="tiny")).model == "2"
    assert repository.resolve(ModelRef(name="tiny", version="1")).model == "1"


def test_two_models_load_side_by_side(root: Path) -> None:
    for version in ("1", "2"):
        publish(root, ONNX, manifest(ONNX, version=version))
    both = threading.Barrier(2, timeout=30)

    def load(entry: ModelEntry) -> str:
        both.wait()
        return entry.manifest.version

    repository = ModelRepository(root, load)
    repository.refresh()
    assert [served.model for served in repository.served()] == ["1", "2"]


def test_a_served_version_outlives_broken_files_and_goes_when_removed(root: Path) -> None:
    directory = publish(root, ONNX)
    repository = refreshed(root)
    (directory / "model.onnx").write_bytes(b"overwritten")
    repository.refresh()
    assert repository.resolve(ModelRef(name="tiny")).model == digest_of(ONNX)
    for file in directory.iterdir():
        file.unlink()
    directory.rmdir()
    repository.refresh()
    assert reason_of(repository, name="tiny")[0] is Reason.MODEL_NOT_FOUND


def test_a_lost_volume_takes_no_model_away(root: Path) -> None:
    publish(root / "models", ONNX)
    repository = refreshed(root / "models")
    (root / "models").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError):
        repository.refresh()
    assert repository.resolve(ModelRef(name="tiny")).model == digest_of(ONNX)


def test_models_are_loaded_once(root: Path) -> None:
    publish(root, ONNX)
    loads: list[str] = []
    repository = ModelRepository(root, lambda entry: loads.append(entry.manifest.version))
    for _ in range(3):
        repository.refresh()
    assert loads == ["1"]


def test_hidden_directories_are_not_models(root: Path) -> None:
    publish(root, ONNX)
    publish(root, ONNX, manifest(ONNX, version=".tmp"))
    publish(root, ONNX, manifest(ONNX, name="..data"))
    assert len(refreshed(root).served()) == 1
