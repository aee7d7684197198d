"""The whole on a cluster, where KUBECONFIG names one that has the images: install, certify, kill.

It makes and deletes the namespace `reaas`: run it on a cluster that is there for tests.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import reaas

from tests.deploy.rendered import K8S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("KUBECONFIG"), reason="KUBECONFIG is not set: no cluster to run on"
    ),
]


def kubectl(*arguments: str) -> str:
    """Output of kubectl."""
    done = subprocess.run(["kubectl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def forwarded(deployment: str, port: int) -> Iterator[str]:
    """Address on loopback of a port of a deployment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        local = int(probe.getsockname()[1])
    command = ["kubectl", "-n", "reaas", "port-forward", f"deployment/{deployment}"]
    process = subprocess.Popen([*command, f"{local}:{port}"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", local)) == 0:
                    break
            time.sleep(0.2)
        yield f"127.0.0.1:{local}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def installed() -> Iterator[None]:
    """The overlay `dev`, rolled out."""
    kubectl("apply", "-k", str(K8S / "overlays/dev"))
    try:
        for name in ("encoder", "f2i"):
            target = f"deployment/reaas-{name}"
            kubectl("-n", "reaas", "rollout", "status", target, "--timeout=300s")
        yield
    finally:
        # The namespace ends last; the next run could not make it while it does.
        kubectl("delete", "-k", str(K8S / "overlays/dev"), "--wait=true", "--timeout=300s")
        kubectl("wait", "--for=delete", "namespace/reaas", "--timeout=300s")


def certify(client: reaas.Client) -> int:
    """Certify a few images; how many radii are above 0."""
    images = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    features = client.encode(images, "moco-sn")
    radii = client.perturb(images, np.full(4, 0.5), features.model)
    assert radii.model == features.model, "a mixed certificate"
    return int((radii.radius > 0).sum())


def test_a_client_certifies(installed: None) -> None:
    with (
        forwarded("reaas-encoder", 50051) as encoder,
        forwarded("reaas-f2i", 50052) as f2i,
        reaas.Client(encoder, f2i) as client,
    ):
        assert certify(client) == 4


def test_it_scales_and_outlives_its_pods(installed: None) -> None:
    kubectl("-n", "reaas", "scale", "deployment/reaas-encoder", "--replicas=2")
    kubectl("-n", "reaas", "rollout", "status", "deployment/reaas-encoder", "--timeout=120s")
    selector = "app.kubernetes.io/name=reaas-encoder"
    pods = kubectl("-n", "reaas", "get", "pods", "-l", selector, "-o", "name").split()
    assert len(pods) == 2
    kubectl("-n", "reaas", "delete", pods[0], "--wait=true")
    kubectl("-n", "reaas", "rollout", "status", "deployment/reaas-encoder", "--timeout=120s")
    with (
        forwarded("reaas-encoder", 50051) as encoder,
        forwarded("reaas-f2i", 50052) as f2i,
        reaas.Client(encoder, f2i) as client,
    ):
        assert certify(client) == 4
