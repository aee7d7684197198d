"""The Helm chart installs what the kustomize tree does, and what values ask for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.deploy.rendered import ROOT, Object, needs_kubectl, of_kind, overlay

CHART = ROOT / "deploy/helm/reaas"
HELM = Path(sys.executable).with_name("helm")
pytestmark = [
    needs_kubectl,
    pytest.mark.skipif(not HELM.exists(), reason="helm is not installed: PyPI has it for Linux"),
]
FOREIGN = ("Certificate", "ServiceMonitor", "PrometheusRule", "Gateway", "GRPCRoute")


def helm(*values: str, files: tuple[str, ...] = (), namespace: str = "reaas") -> Any:
    """`helm template` with --set arguments and values files."""
    command = [str(HELM), "template", "reaas", str(CHART), "--namespace", namespace]
    command += [part for file in files for part in ("--values", str(CHART / file))]
    command += [part for value in values for part in ("--set", value)]
    # Its own caches and repositories, not those of the person who runs the tests.
    own = os.environ | {"HELM_CACHE_HOME": "/nonexistent", "HELM_CONFIG_HOME": "/nonexistent"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=own)


def objects_of(*values: str, **options: Any) -> tuple[Object, ...]:
    """The objects that a release would have."""
    done = helm(*values, **options)
    assert done.returncode == 0, done.stderr
    return tuple(found for found in yaml.safe_load_all(done.stdout) if found)


def normal(objects: tuple[Object, ...]) -> dict[tuple[str, str], Object]:
    """By kind and name, volumes in order. Helm makes the namespace itself."""
    found = {}
    for item in objects:
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        pod.get("volumes", []).sort(key=lambda volume: volume["name"])
        if item["kind"] != "Namespace":
            found[item["kind"], item["metadata"]["name"]] = item
    return found


@pytest.mark.parametrize(
    ("name", "files", "values"),
    [
        ("dev", (), ()),
        ("prod", ("values-prod.yaml",), ()),
        ("gpu", ("values-prod.yaml",), ("encoder.gpus=1", "pretrain.gpusPerNode=1")),
    ],
)
def test_the_chart_installs_what_the_overlay_does(
    name: str, files: tuple[str, ...], values: tuple[str, ...]
) -> None:
    wanted, got = normal(overlay(name)), normal(objects_of(*values, files=files))
    assert got.keys() == wanted.keys()
    for key, item in wanted.items():
        assert got[key] == item, key


MANY = (
    "images.registry=registry.example/team/",
    "images.pullSecrets={registry}",
    "images.digests.encoder=sha256:" + "0" * 64,
    "models.existingClaim=own",
    "pretrain.enabled=true",
    "pretrain.data.existingClaim=sets",
    "keys.anonymous=false",
    "keys.secret=my-keys",
    "persistence.storageClass=fast",
    "encoder.replicas=3",
    "f2i.settings.WORKERS=4",
    "settings.MAX_PENDING_BYTES=268435456",
    "tls.enabled=true",
    "networkPolicies=true",
    "monitoring.operator=true",
    "outside.by=gateway",
    "outside.host=reaas.of.example",
)


def test_values_reach_the_objects() -> None:
    objects = objects_of(*MANY, namespace="edge")
    for item in objects:
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, "1.32", strict=True)
        assert item["metadata"].get("namespace", "edge") == "edge"
    pods = {n: d["spec"]["template"]["spec"] for n, d in of_kind(objects, "Deployment").items()}
    encoder, f2i, pretrain = (pods[f"reaas-{name}"] for name in ("encoder", "f2i", "pretrain"))
    assert encoder["containers"][0]["image"].startswith(
        "registry.example/team/reaas-encoder@sha256:"
    )
    assert f2i["containers"][0]["image"] == "registry.example/team/reaas-f2i:0.1.0"
    assert f2i["initContainers"][0]["image"] == "registry.example/team/reaas-models:0.1.0"
    assert {"name": "REAAS_WORKERS", "value": "4"} in f2i["containers"][0]["env"]
    assert {"name": "registry"} in pretrain["imagePullSecrets"]
    environment = {e["name"]: e.get("value") for e in pretrain["containers"][0]["env"]}
    assert environment["REAAS_KUBERNETES__DATA_CLAIM"] == "sets"
    claims = {
        v["name"]: v["persistentVolumeClaim"]["claimName"]
        for v in pretrain["volumes"]
        if "persistentVolumeClaim" in v
    }
    assert claims == {"models": "own", "runs": "reaas-pretrain-runs", "data": "sets"}
    assert set(of_kind(objects, "PersistentVolumeClaim")) == {"reaas-pretrain-runs"}
    config = of_kind(objects, "ConfigMap")["reaas-config"]["data"]
    assert config["REAAS_MAX_PENDING_BYTES"] == "268435456"
    assert "REAAS_ALLOW_ANONYMOUS" not in config
    names = of_kind(objects, "Certificate")["reaas-f2i"]["spec"]["dnsNames"]
    assert "reaas-f2i.edge.svc.cluster.local" in names
    assert of_kind(objects, "GRPCRoute")["reaas-f2i"]["spec"]["hostnames"] == ["reaas.of.example"]


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (("encoder.replicas=many",), "replicas"),
        (("encoder.replica=2",), "replica"),
        (("settings.max_workers=2",), "settings"),
        (("images.registry=registry.example",), "registry"),
        (("pretrain.enabled=true",), "serves operators only"),
        (("spread=true",), "ReadWriteMany"),
        (("outside.by=tunnel",), "by"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(values: tuple[str, ...], why: str) -> None:
    done = helm(*values)
    assert done.returncode != 0
    assert why in done.stderr


def test_the_charts_objects_are_current() -> None:
    check = [sys.executable, str(ROOT / "scripts/helm_chart.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
