"""What `kubectl apply -k` would send: overlays and components, built by kustomize."""

from __future__ import annotations

import functools
import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy/k8s"
OVERLAYS = sorted(path.parent.name for path in K8S.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.name for path in K8S.glob("components/*/kustomization.yaml"))
SERVICES = ("encoder", "f2i", "pretrain")
# What may not be used together: two autoscalers of one Deployment, two ways in by one name.
APART = ({"hpa", "keda"}, {"gateway", "ingress"})

Object = dict[str, Any]
needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl is not installed: it builds the overlays"
)


@functools.cache
def overlay(name: str) -> tuple[Object, ...]:
    """All objects of an overlay."""
    return built(K8S / "overlays" / name)


def combinations() -> Iterator[tuple[str, ...]]:
    """Every set of components that may be used together, `pretrain` first, as others patch it."""
    others = sorted(COMPONENTS, key=lambda name: name != "pretrain")
    for size in range(len(others) + 1):
        for chosen in itertools.combinations(others, size):
            if not any(pair <= set(chosen) for pair in APART):
                yield chosen


@functools.cache
def base_with(components: tuple[str, ...]) -> tuple[Object, ...]:
    """All objects of the base with some components."""
    # kustomize takes relative paths only, and none outside of what it was started on but bases.
    with tempfile.TemporaryDirectory(dir=K8S, prefix=".test-") as directory:
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": ["../base"],
            "components": [f"../components/{name}" for name in components],
        }
        (Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(content))
        return built(Path(directory))


def services_of(objects: tuple[Object, ...]) -> list[str]:
    """The services that are deployed."""
    return [name.removeprefix("reaas-") for name in of_kind(objects, "Deployment")]


def of_kind(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    """Name -> object."""
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def pod_of(objects: tuple[Object, ...], service: str) -> Object:
    """The pod template's spec of a service."""
    deployment = of_kind(objects, "Deployment")[f"reaas-{service}"]
    spec: Object = deployment["spec"]["template"]["spec"]
    return spec


def environment(objects: tuple[Object, ...], service: str) -> dict[str, str]:
    """Environment of a service's container, ConfigMap included."""
    container = pod_of(objects, service)["containers"][0]
    values: dict[str, str] = dict(of_kind(objects, "ConfigMap")["reaas-config"]["data"])
    for entry in container.get("env", []):
        values[entry["name"]] = entry.get("value", "reaas")
    return values


def built(directory: Path) -> tuple[Object, ...]:
    """All objects of the kustomization in a directory."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(directory)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))
