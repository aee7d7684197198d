"""The key file as people, editors and accidents write it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from reaas_runtime import ConfigurationError
from reaas_runtime.key_file import LONGEST_FILE, parse_key_file, read_bytes, read_key_file
from reaas_runtime.keys import add_key

FILE = Path("keys.txt")
A, B = "a" * 64, "b" * 64


def parsed(raw: bytes) -> tuple[list[str], tuple[str, ...]]:
    found = parse_key_file(raw, FILE)
    return list(found.entries), found.faults


FAULTY = {
    "latin-1 id": b"caf\xe9: " + A.encode(),
    "utf-16": f"x: {A}".encode("utf-16"),
    "NUL": b"x\x00: " + A.encode(),
    "no hash": b"x: 1234",
    "too long": b"x: " + A.encode() + b" 1/day" * 500,
    "unknown role": f"x: {A} wizard".encode(),
    "bad limit": f"x: {A} 3/fortnight".encode(),
    "no colon": b"just words",
    "reserved": f"anonymous: {A}".encode(),
    "same client": f"good: {A}".encode(),
    "same key": f"other: {B}".encode(),
    "bidi control": f"x\u202e: {A}".encode(),
}


@pytest.mark.parametrize("case", FAULTY)
def test_a_faulty_line_is_skipped_and_named(case: str) -> None:
    raw = b"good: " + B.encode() + b"\n" + FAULTY[case] + b"\nlast: " + b"c" * 64 + b"\n"
    clients, faults = parsed(raw)
    assert clients == ["good", "last"]
    assert [fault.partition(": ")[0] for fault in faults] == ["keys.txt:2"]
    assert A not in faults[0], "what may be a key is not repeated"
    assert len(faults[0]) < 300


@pytest.mark.parametrize(
    "raw",
    [
        f"\ufeffgood: {A}\n".encode(),
        f"good: {A}\r\n".encode(),
        f"good: {A}\r".encode(),
        f"  good :  {A}  # \xe9\n".encode("latin-1"),
        f"# caf\xe9 \x00\ngood: {A}".encode("latin-1"),
        f"\n\n \t\ngood: {A} operator 5/second".encode(),
    ],
)
def test_what_editors_write_is_read(raw: bytes) -> None:
    assert parsed(raw) == (["good"], ())


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * (LONGEST_FILE + 1))
    for name, why in [
        ("pipe", "not a regular file"),
        (".", "not a regular file|Is a directory"),
        ("large", "longer than"),
        ("none", "No such file"),
    ]:
        with pytest.raises(ConfigurationError, match=why):
            read_bytes(tmp_path / name)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        read_bytes(Path("/dev/zero"))


@pytest.mark.parametrize("end", ["", "\n", "\r\n", " # a comment without end"])
def test_add_begins_a_line_of_its_own(tmp_path: Path, end: str) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes(f"# ours\nhand: {A}{end}".encode())
    file.chmod(0o640)
    add_key("new", file)
    add_key("next", file)
    assert list(read_key_file(file)) == ["hand", "new", "next"]
    assert file.read_bytes().startswith(b"# ours\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["keys.txt"], "nothing is left beside it"


def test_add_replaces_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.txt"
    link.symlink_to(tmp_path / "real/keys.txt")
    add_key("new", link)
    assert link.is_symlink()
    assert list(read_key_file(tmp_path / "real/keys.txt")) == ["new"]


def test_add_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path, tmp_path / "none/keys.txt"):
        with pytest.raises(ConfigurationError):
            add_key("new", file)


def test_adds_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    clients = ["same", "same", "one", "two"]
    adding = [
        subprocess.Popen(
            [sys.executable, "-m", "reaas_runtime.keys", "add", client, "--file", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for client in clients
    ]
    codes = [process.wait(120) for process in adding]
    assert sorted(codes[:2]) == [0, 2]
    assert codes[2:] == [0, 0]
    assert sorted(read_key_file(file)) == ["one", "same", "two"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
