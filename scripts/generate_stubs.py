"""Generate the Python stubs from `protos/`, or check that the committed ones are current."""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
PACKAGE = Path("reaas/v1")
TARGET = ROOT / "clients/python"


def generate(target: Path) -> None:
    """Write messages, services and their type stubs below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    # protoc finds the mypy plugin beside the interpreter that runs this script.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    well_known = resources.files("grpc_tools") / "_proto"
    files = sorted((PROTOS / PACKAGE).glob("*.proto"))
    services = [file for file in files if "\nservice " in file.read_text()]
    run(files, target, well_known, ["--python_out", "--pyi_out"])
    run(services, target, well_known, ["--grpc_python_out", "--mypy_grpc_out"])


def run(files: list[Path], target: Path, well_known: object, outputs: list[str]) -> None:
    """Run protoc with one output directory for all plugins."""
    arguments = ["protoc", f"-I{PROTOS}", f"-I{well_known}"]
    arguments += [
        f"{name}=quiet:{target}" if "mypy" in name else f"{name}={target}" for name in outputs
    ]
    if protoc.main([*arguments, *map(str, files)]) != 0:
        raise SystemExit("protoc failed; its messages are above")


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of generated files that differ, are missing or are left over."""
    is_stub = "*_pb2*.py*"
    names = {path.name for folder in (fresh, committed) for path in folder.glob(is_stub)}
    _, changed, missing = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted(changed + missing)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if not current")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = differences(Path(folder) / PACKAGE, TARGET / PACKAGE)
        if check:
            if stale:
                raise SystemExit(f"stubs not current: {', '.join(stale)}; run `make protos`")
            return
        for name in stale:
            (TARGET / PACKAGE / name).unlink(missing_ok=True)
        shutil.copytree(Path(folder) / PACKAGE, TARGET / PACKAGE, dirs_exist_ok=True)
    print(f"stubs written to {(TARGET / PACKAGE).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
