"""The base as podman runs it: the same images, settings and manifests as on Kubernetes.

podman gives no Services and runs no gRPC probes; `test_cluster.py` has those.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import reaas
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sklearn.datasets import load_digits

from scripts.check_image_sizes import REGISTRY
from tests.deploy.rendered import Object, needs_kubectl, of_kind, overlay

pytestmark = [pytest.mark.slow, needs_kubectl]
STARTUP_S = 120.0


def image_exists(image: str) -> bool:
    """Whether podman has the image."""
    if shutil.which("podman") is None:
        return False
    return subprocess.run(["podman", "image", "exists", image], check=False).returncode == 0


@dataclass(frozen=True)
class Ports:
    """Of one service on loopback: test machines may have no network of containers."""

    grpc: int
    metrics: int
    health: int

    @classmethod
    def free(cls) -> Ports:
        """Three that nobody uses now."""
        sockets = [socket.socket() for _ in range(3)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        numbers = [int(probe.getsockname()[1]) for probe in sockets]
        for probe in sockets:
            probe.close()
        return cls(*numbers)

    @property
    def environment(self) -> dict[str, str]:
        """Settings that make a service use them."""
        return {
            "REAAS_HOST": "127.0.0.1",
            "REAAS_METRICS_HOST": "127.0.0.1",
            "REAAS_PORT": str(self.grpc),
            "REAAS_METRICS_PORT": str(self.metrics),
            "REAAS_HEALTH_PORT": str(self.health),
        }


def on_loopback(deployment: Object, ports: Ports) -> Object:
    """The deployment with its ports on loopback; else as it is."""
    changed = deepcopy(deployment)
    changed["metadata"].pop("namespace")
    # podman 4 stumbles over removing an init container that has just ended.
    annotations = changed["metadata"].setdefault("annotations", {})
    annotations["io.podman.annotations.init.container.type"] = "always"
    pod = changed["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    # An optional Secret that is not there: podman knows none that may be missing.
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "keys"]
    for container in [*pod["containers"], *pod["initContainers"]]:
        container["image"] = f"{REGISTRY}/{container['image']}"
        mounts = container["volumeMounts"]
        container["volumeMounts"] = [mount for mount in mounts if mount["name"] != "keys"]
    [container] = pod["containers"]
    given = ports.environment.items()
    container["env"] = [{"name": name, "value": value} for name, value in given]
    del container["ports"]  # of the host: nothing to map
    return changed


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ports]]:
    """Encoder and F2I of the overlay `dev`, serving."""
    objects = overlay("dev")
    deployments = of_kind(objects, "Deployment")
    tag = deployments["reaas-encoder"]["spec"]["template"]["spec"]["containers"][0]["image"]
    if not image_exists(f"{REGISTRY}/{tag}"):
        pytest.skip("no images: make images ENGINE=podman")
    ports = {name: Ports.free() for name in ("encoder", "f2i")}
    config = deepcopy(of_kind(objects, "ConfigMap")["reaas-config"])
    config["metadata"].pop("namespace")
    del config["data"]["REAAS_HEALTH_PORT"]  # for podman 4, it would win over the pod's own
    documents = [config, *(on_loopback(deployments[f"reaas-{n}"], p) for n, p in ports.items())]
    file: Path = tmp_path_factory.mktemp("play") / "reaas.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    try:
        done = subprocess.run(
            ["podman", "kube", "play", "--replace", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        for found in ports.values():
            wait_until_serving(found.health)
        yield ports
    finally:
        subprocess.run(["podman", "kube", "down", str(file)], check=False, capture_output=True)


def wait_until_serving(port: int) -> None:
    """Ask as the kubelet does."""
    deadline = time.monotonic() + STARTUP_S
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            try:
                reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.RpcError:
                time.sleep(0.5)
                continue
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(0.5)
    raise AssertionError(f"port {port} is not SERVING after {STARTUP_S:.0f} s")


def test_a_client_certifies_through_the_containers(played: dict[str, Ports]) -> None:
    images = load_digits().images[:8, :, :, None]  # [8, 8, 8, 1]
    images = (images / 16).astype(np.float32)
    encoder, f2i = (f"127.0.0.1:{played[name].grpc}" for name in ("encoder", "f2i"))
    with reaas.Client(encoder, f2i) as client:
        features = client.encode(images, "moco-sn")
        radii = client.perturb(images, np.full(8, 0.5), features.model)
    assert radii.model == features.model
    assert (radii.radius > 0).all()


def test_the_shipped_encoders_are_all_there(played: dict[str, Ports]) -> None:
    with reaas.Client(f"127.0.0.1:{played['encoder'].grpc}", None) as client:
        served = {info.ref.name for info in client.models()}
    shipped = {path.parent.parent.name for path in Path("models").glob("*/*/manifest.json")}
    assert served == shipped
