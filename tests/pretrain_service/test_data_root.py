"""What a run may read: files below the data root, wherever links lead."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.__main__ import main
from reaas_pretrain.inside import OutsideError, check_tree, resolved_inside

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import create, ended, refused, service
from tests.support.servers import error_info

Make = Callable[[Path, Path], None]


def _link_to(target: str) -> Make:
    return lambda place, _: place.symlink_to(target)


def _relative(place: Path, outside: Path) -> None:
    place.symlink_to(os.path.relpath(outside, place.parent))


def _chain(place: Path, outside: Path) -> None:
    hop = place.with_name("hop")
    hop.symlink_to(outside)
    place.symlink_to(hop.name)


def _circle(place: Path, _: Path) -> None:
    place.symlink_to(place.name)


def _socket(place: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(place.parent)  # The path of a socket is short.
        listener.bind(place.name)


LEAVING: dict[str, Make] = {
    "absolute link": lambda place, outside: place.symlink_to(outside),
    "relative link": lambda place, outside: place.symlink_to(
        os.path.relpath(outside, place.parent)
    ),
    "link of a link": _chain,
    "circle": _circle,
    "device": _link_to("/dev/zero"),
    "/proc": _link_to("/proc/self/environ"),
    "link to the parent": lambda place, _: place.symlink_to("../../.."),
    "FIFO": lambda place, _: os.mkfifo(place),
    "socket": _socket,
}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(os.getcwd())


@pytest.mark.parametrize("kind", LEAVING)
@pytest.mark.parametrize("field", ["dataset", "source"])
async def test_what_leaves_the_data_root_is_refused(house: Path, kind: str, field: str) -> None:
    outside = house / "secret"
    outside.mkdir()
    name = "way" if field == "dataset" else "way.npz"
    place = house / "data" / name if field == "dataset" else house / "data" / "pictures" / name
    LEAVING[kind](place, outside)
    wanted = pb.RunSpec(recipe="small", dataset=name if field == "dataset" else "pictures")
    wanted.source = "" if field == "dataset" else name
    async with service(house) as (_, stub):
        error = await refused(stub.CreateRun(pb.CreateRunRequest(spec=wanted)))
        assert error_info(error).reason == "INVALID_DATASET"
        assert error_info(error).metadata["field"] == f"spec.{field}"
        known = await stub.ListRecipes(pb.ListRecipesRequest())
        assert list(known.datasets) == ["pictures"]


@pytest.mark.parametrize("kind", LEAVING)
def test_the_process_that_reads_looks_at_everything_below(tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret"
    (root / "set" / "deep").mkdir(parents=True)
    outside.mkdir()
    check_tree(root / "set", root)
    LEAVING[kind](root / "set" / "deep" / "way", outside)
    if kind == "circle":  # It leads nowhere, and so it leaks nothing.
        check_tree(root / "set", root)
        return
    with pytest.raises(OutsideError, match=r"way|hop"):
        check_tree(root / "set", root)


def test_links_that_stay_inside_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "store").mkdir(parents=True)
    (root / "store" / "a.png").touch()
    (root / "set").symlink_to("store")
    (root / "store" / "again").symlink_to("../set")  # A circle of directories.
    other = tmp_path / "root-2"
    other.symlink_to(root)
    check_tree(other / "set", other)
    assert resolved_inside(other / "set" / "a.png", other) == (root / "store" / "a.png").resolve()
    sibling = tmp_path / "root-3"
    sibling.mkdir()
    (root / "set" / "near").symlink_to(sibling)  # Its name begins alike.
    with pytest.raises(OutsideError):
        check_tree(root / "set", root)


async def test_a_link_that_appears_after_the_run_was_made(
    house: Path, pictures: Path, script: Script
) -> None:
    """The name was checked with the request; what it has become is checked by who reads it."""
    data = house / "data"
    recipe = house / "recipes" / "small.toml"
    shutil.copytree(pictures, data / "late")
    (data / "swapped").symlink_to("late")
    script("true")
    async with service(house) as (_, stub):
        run = await create(stub, pb.RunSpec(recipe="small", dataset="swapped"))
        await ended(stub, run.id)
    shutil.move(data / "late", house / "elsewhere")
    (data / "late").symlink_to(house / "elsewhere")
    asked = ["train", "--recipe", str(recipe), "--data", str(data / "swapped")]
    asked += ["--out", str(house / "out"), "--inside", str(data)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 1
    assert "leads out of the directory of data sets" in result.output
