"""Lock what the images install: exact versions, each with the SHA-256 of the file that pip takes.

    python scripts/lock_images.py            # asks the index; writes deploy/docker/locks/*.txt
    python scripts/lock_images.py --check    # offline: do the locks agree with constraints.txt?

The versions are those of constraints.txt, the hashes those that the index states for the files that
fit this interpreter, which must be the images' own: Linux, x86-64, CPython 3.11. PyTorch's CPU
wheel ("+cpu") is another file than that of the same version with CUDA: see docs/decisions/0020.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "deploy" / "docker" / "locks"
EXTRAS = ("encoder", "f2i", "pretrain-k8s", "gpu")
"""One lock each; `build` is one more, of what makes the wheel of the project itself."""
BUILD = "build"
_HEADER = "# What the image `{}` installs; scripts/lock_images.py writes this file.\n"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")
_NAME = re.compile(r"^[A-Za-z0-9._-]+")


def main() -> None:
    """Write the locks, or check them and end with status 1."""
    if "--check" in sys.argv[1:]:
        problems = [problem for name in (*EXTRAS, BUILD) for problem in check(name)]
        sys.exit("\n".join(problems) if problems else 0)
    LOCKS.mkdir(parents=True, exist_ok=True)
    for name in (*EXTRAS, BUILD):
        pins = resolve(_wanted(name))
        (LOCKS / f"{name}.txt").write_text(_HEADER.format(name) + "".join(pins))
        print(f"{len(pins)} packages in {name}.txt")


def resolve(requirements: list[str]) -> list[str]:
    """Lines of a lock for what pip would install now: nothing is downloaded but metadata."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--only-binary", ":all:", "--report", report.name]
        command += ["--constraint", str(ROOT / "constraints.txt"), *requirements]
        subprocess.run(command, check=True, cwd=ROOT)
        found = json.loads(Path(report.name).read_text())["install"]
    return sorted(_line(package) for package in found)


def check(name: str) -> list[str]:
    """What is wrong with one lock, in words."""
    file = LOCKS / f"{name}.txt"
    if not file.exists():
        return [f"{file.name} is missing: run scripts/lock_images.py"]
    text = file.read_text()
    pinned = _pins(text)
    constrained = _pins((ROOT / "constraints.txt").read_text())
    problems = [
        f"{file.name}: {package}=={version}, but constraints.txt has {constrained[package]}"
        for package, version in pinned.items()
        if constrained.get(package, _public(version)) != _public(version)
    ]
    problems += [
        f"{file.name}: {requirement} is not locked"
        for requirement in map(_normal, _wanted(name))
        if requirement not in pinned
    ]
    lines = text.replace("\\\n", "").splitlines()
    problems += [
        f"{file.name}: no hash for {line}"
        for line in lines
        if _PIN.match(line) and "--hash=sha256:" not in line
    ]
    return [f"{problem}; run scripts/lock_images.py" for problem in problems]


def _wanted(name: str) -> list[str]:
    """Requirements of an image: the project's own and those of its extra, extras taken apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    if name == BUILD:
        return list(project["build-system"]["requires"])
    extras = project["project"]["optional-dependencies"]
    found, waiting = list(project["project"]["dependencies"]), list(extras[name])
    while waiting:
        requirement = waiting.pop()
        inner = re.fullmatch(r"reaas\[([a-z0-9,-]+)\]", requirement)
        if inner:
            waiting += [each for extra in inner[1].split(",") for each in extras[extra]]
        elif requirement not in found:
            found.append(requirement)
    return found


def _line(package: dict[str, dict[str, object]]) -> str:
    info = package["download_info"]["archive_info"]
    metadata = package["metadata"]
    digest = info["hashes"]["sha256"]  # type: ignore[index]
    return f"{metadata['name']}=={metadata['version']} \\\n    --hash=sha256:{digest}\n"


def _pins(text: str) -> dict[str, str]:
    found = (_PIN.match(line) for line in text.splitlines())
    return {_normal(pin[1]): pin[2] for pin in found if pin}


def _public(version: str) -> str:
    return version.partition("+")[0]


def _normal(requirement: str) -> str:
    name = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", name[0] if name else requirement).lower()


if __name__ == "__main__":
    main()
