"""The init containers that bring the shipped encoders: many at once, killed, repaired.

Each runs in a PID namespace of its own, where its process id is 1: as in containers, names made of
`$$` are the same in all of them.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy/docker/seed-models.sh"
TRIALS = 200


def _namespaces() -> list[str]:
    """Command that starts a program as process 1 of its own namespace; empty where it may not."""
    command = ["unshare", "--pid", "--fork"]
    if shutil.which("unshare") is None:
        return []
    allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    return command if allowed else []


NAMESPACE = _namespaces()
pytestmark = pytest.mark.skipif(
    not NAMESPACE, reason="unshare --pid is not allowed here: containers cannot be told apart"
)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one of them with two versions; large enough that a copy takes a while."""
    root = tmp_path_factory.mktemp("shipped")
    for number, path in enumerate(("bag/1", "bag/2", "window/1")):
        version = root / path
        version.mkdir(parents=True)
        (version / "manifest.json").write_text(f'{{"name": "{path}", "number": {number}}}' * 50)
        (version / "model.onnx").write_bytes(bytes([number + 1]) * 300_000)
    return root


def seed(shipped: Path, target: Path) -> subprocess.Popen[str]:
    """One init container."""
    return subprocess.Popen(
        [*NAMESPACE, "sh", str(SCRIPT), str(target), str(shipped)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(container: subprocess.Popen[str]) -> str:
    """What it said; it must have ended well."""
    said, _ = container.communicate(timeout=120)
    assert container.returncode == 0, said
    return said


def content(root: Path) -> dict[str, bytes | None]:
    """Every path below root, with the bytes of files."""
    paths = [path for path in sorted(root.rglob("*")) if path.name != ".ready"]
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in paths}


def test_two_containers_at_once_never_spoil_the_repository(shipped: Path, tmp_path: Path) -> None:
    wanted = content(shipped)
    for trial in range(TRIALS):
        target = tmp_path / str(trial)
        target.mkdir()
        containers = [seed(shipped, target) for _ in range(2)]
        said = [ended(container) for container in containers]
        assert content(target) == wanted, said
        shutil.rmtree(target)


def _empty(version: Path) -> None:
    for file in version.iterdir():
        file.unlink()


def _without_model(version: Path) -> None:
    (version / "model.onnx").unlink()


def _cut_off(version: Path) -> None:
    model = version / "model.onnx"
    model.write_bytes(model.read_bytes()[:1000])


def _cut_off_manifest(version: Path) -> None:
    (version / "manifest.json").write_text("")
    _without_model(version)


def _nested(version: Path) -> None:
    shutil.copytree(version, version / version.name)


def _nested_only(version: Path) -> None:
    _nested(version)
    _without_model(version)
    (version / "manifest.json").unlink()


@pytest.mark.parametrize(
    "spoil", [_empty, _without_model, _cut_off, _cut_off_manifest, _nested, _nested_only]
)
def test_a_broken_version_of_ours_is_repaired_by_several_at_once(
    spoil: Callable[[Path], None], shipped: Path, tmp_path: Path
) -> None:
    wanted = content(shipped)
    for trial in range(5):
        target = tmp_path / str(trial)
        shutil.copytree(shipped, target)
        spoil(target / "bag/2")
        containers = [seed(shipped, target) for _ in range(3)]
        said = [ended(container) for container in containers]
        assert content(target) == wanted, said


def test_what_others_have_published_is_left_alone(shipped: Path, tmp_path: Path) -> None:
    shutil.copytree(shipped, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bag/2/manifest.json").write_text('{"name": "of the operator"}')
    (tmp_path / "bag/2/model.onnx").write_bytes(b"of the operator")
    (tmp_path / "own/7").mkdir(parents=True)
    before = content(tmp_path)
    assert "bag/2 is not what we ship: left as it is" in ended(seed(shipped, tmp_path))
    assert content(tmp_path) == before


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_container_is_made_good_by_the_next(
    how: signal.Signals, shipped: Path, tmp_path: Path
) -> None:
    for trial in range(10):
        target = tmp_path / str(trial)
        target.mkdir()
        first = seed(shipped, target)
        time.sleep(0.005 * trial)
        first.send_signal(how)
        first.communicate()
        ended(seed(shipped, target))
        versions = {path: data for path, data in content(target).items() if path[0] != "."}
        assert versions == content(shipped)


def test_a_volume_that_takes_no_more_fails_loudly(shipped: Path, tmp_path: Path) -> None:
    (tmp_path / "bag").write_text("a file where a directory must be")
    container = seed(shipped, tmp_path)
    said, _ = container.communicate(timeout=120)
    assert container.returncode != 0
    assert "bag" in said
