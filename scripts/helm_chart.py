"""Brings the objects of deploy/k8s into the Helm chart, a file each: the chart only changes them.

The kustomize tree stays the one place where objects are written down; `deploy/helm/reaas/templates`
holds what values change in them. `--check` compares with what is committed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
K8S = ROOT / "deploy/k8s"
CHART = ROOT / "deploy/helm/reaas"
OBJECTS = CHART / "objects"
# Components that bring objects of their own; what the others patch, the templates do.
COMPONENTS = {
    "pretrain": "components/pretrain",
    "network-policies": "components/network-policies",
    "tls": "components/tls",
    "hpa": "components/hpa",
    "prometheus-operator": "components/prometheus-operator",
    "observability": "../observability",
    "gateway": "components/gateway",
    "ingress": "components/ingress",
}
# Of the overlay `prod`: objects beside the components', and what it adds to pods.
PROD = ("disruption.yaml", "priorities.yaml")
SPREAD = ("spread-encoder.yaml", "spread-f2i.yaml")

Object = dict[str, Any]


def rendered() -> dict[str, str]:
    """Path below `objects/` -> content."""
    base = built([])
    files = {f"base/{name}": text for name, text in _texts(base).items()}
    for name, path in COMPONENTS.items():
        own = [item for item in built([path]) if _key(item) not in {_key(b) for b in base}]
        files |= {f"{name}/{file}": text for file, text in _texts(own).items()}
    for file in PROD:
        found = list(yaml.safe_load_all((K8S / "overlays/prod" / file).read_text()))
        files |= {f"spread/{name}": text for name, text in _texts(found).items()}
    for file in SPREAD:
        patch = yaml.safe_load((K8S / "overlays/prod" / file).read_text())
        files[f"patches/{file}"] = yaml.safe_dump(patch)
    return files


def built(components: list[str]) -> list[Object]:
    """All objects of the base with some components."""
    with tempfile.TemporaryDirectory(dir=K8S, prefix=".chart-") as directory:
        content = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": "reaas",
            "resources": ["../base"],
            "components": [f"../{path}" for path in components],
        }
        (Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(content))
        command = ["kubectl", "kustomize", directory]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def _key(item: Object) -> tuple[str, str]:
    return item["kind"], item["metadata"]["name"]


def _texts(objects: list[Object]) -> dict[str, str]:
    """File name -> YAML; the namespace is a release's own, and Helm makes it or finds it."""
    texts = {}
    for item in objects:
        if item["kind"] == "Namespace":
            continue
        item["metadata"].pop("namespace", None)
        name = f"{item['kind'].lower()}-{item['metadata']['name']}.yaml"
        texts[name] = yaml.safe_dump(item, allow_unicode=True, width=10_000)
    return texts


def main() -> int:
    """0: written, or current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    wanted = rendered()
    there = {str(p.relative_to(OBJECTS)): p.read_text() for p in OBJECTS.rglob("*.yaml")}
    if check:
        stale = sorted(k for k in wanted.keys() | there.keys() if wanted.get(k) != there.get(k))
        if stale:
            print(f"stale, run `make chart`: {', '.join(stale)}", file=sys.stderr)
        return bool(stale)
    for path in there.keys() - wanted.keys():
        (OBJECTS / path).unlink()
    for path, text in wanted.items():
        file = OBJECTS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    print(f"{len(wanted)} objects in {OBJECTS.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
