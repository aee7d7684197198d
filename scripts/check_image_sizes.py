"""Check that the images built by `make images` keep within their budgets."""

from __future__ import annotations

import argparse
import subprocess
import sys

MB = 10**6
# The name in full, as `make images` tags it and as a node reads the short one of the manifests:
# podman alone would put `localhost/` before it, and the pods would look for another image.
REGISTRY = "docker.io/library"
# What a node has to pull before a pod can start, uncompressed. torch alone is 750 MB.
BUDGETS = {
    "reaas-encoder": 350 * MB,
    "reaas-f2i": 1_300 * MB,
    "reaas-pretrain": 1_500 * MB,
    "reaas-models": 60 * MB,
}


def size_of(engine: str, image: str) -> int:
    """Bytes of an image, as docker or podman says."""
    command = [engine, "image", "inspect", "--format", "{{.Size}}", image]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise SystemExit(f"{image}: {found.stderr.strip()}")
    return int(found.stdout)


def main() -> int:
    """0: all images are within their budgets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="docker", help="docker or podman")
    parser.add_argument("--tag", required=True, help="tag of the images")
    parsed = parser.parse_args()
    failed = False
    for name, budget in BUDGETS.items():
        size = size_of(parsed.engine, f"{REGISTRY}/{name}:{parsed.tag}")
        verdict = "ok" if size <= budget else "TOO LARGE"
        failed |= size > budget
        print(f"{name:16} {size / MB:7.0f} MB of {budget / MB:.0f} MB  {verdict}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
