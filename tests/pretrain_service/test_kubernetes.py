"""Runs as Kubernetes Jobs: every object against the schema, every answer of the API server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes import client, config
from pydantic import ValidationError
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.service import kubernetes_launcher
from reaas_pretrain.service.kubernetes_job import command, job, job_name
from reaas_pretrain.service.kubernetes_launcher import KubernetesLauncher, append_output
from reaas_pretrain.service.kubernetes_pods import why_waiting
from reaas_pretrain.service.launcher import LaunchError, last_words
from reaas_pretrain.service.progress import rows
from reaas_pretrain.service.run import Run, Spec
from reaas_pretrain.service.settings import KubernetesSettings, Owner
from reaas_runtime import ConfigurationError

from tests.pretrain_service.cluster import Cluster, api_server
from tests.pretrain_service.house import RECIPE, create, ended, get, service, until

OWNER = Owner(api_version="apps/v1", kind="Deployment", name="reaas-pretrain", uid="123-abc")
RUN = Run(
    id="20261122-170000-000001",
    client_id="ops",
    spec=Spec(recipe="small", dataset="pictures"),
    model_name="small",
    epochs=3,
    created=datetime(2026, 11, 22, 17, tzinfo=UTC),
)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that KUBECONFIG names."""
    with api_server() as (cluster, url):
        file = tmp_path / "kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "c", "cluster": {"server": url}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        monkeypatch.setenv("KUBECONFIG", str(file))
        monkeypatch.setattr(config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        monkeypatch.setattr(kubernetes_launcher, "_PODS_EVERY_S", 0.0)
        monkeypatch.setenv("REAAS_KUBERNETES__IMAGE", "registry.example/reaas-pretrain:1")
        yield cluster


async def job_of(cluster: Cluster, run: pb.Run) -> str:
    """Name of the run's job, once it is there."""
    name = job_name(run.id)
    async with asyncio.timeout(30):
        while name not in cluster.jobs:
            await asyncio.sleep(0.01)
    return name


@pytest.mark.parametrize(
    "settings",
    [
        KubernetesSettings(),
        KubernetesSettings(nodes=4, processes_per_node=2, gpus_per_node=2, cpu="16", owner=OWNER),
        KubernetesSettings(
            cpu="1500m", memory="512Mi", gpu_resource="amd.com/gpu", gpus_per_node=1
        ),
    ],
)
def test_the_job_is_valid_and_restricted(settings: KubernetesSettings) -> None:
    made = job(RUN, settings, max_restarts=3, grace_s=10.0)
    kubernetes_validate.validate(made, "1.32", strict=True)
    spec, pod = made["spec"], made["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", settings.nodes)
    assert spec["backoffLimit"] == 3 * settings.nodes
    # Pod Security Standard "restricted".
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert {key for volume in pod["volumes"] for key in volume.keys() - {"name"}} <= {
        "emptyDir",
        "persistentVolumeClaim",
    }
    # Beyond it.
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["automountServiceAccountToken"] is False
    limits = container["resources"]["limits"]
    assert limits.get(settings.gpu_resource) == (
        str(settings.gpus_per_node) if settings.gpus_per_node else None
    )
    assert [t["key"] for t in pod["tolerations"]] == (
        [settings.gpu_resource] if settings.gpus_per_node else []
    )
    owners = made["metadata"]["ownerReferences"]
    assert [owner["uid"] for owner in owners] == (["123-abc"] if settings.owner else [])
    [runs] = [m for m in container["volumeMounts"] if m["name"] == "runs"]
    assert runs["subPath"] == RUN.id, "a pod sees its own run only"


def test_each_process_has_a_gpu_of_its_own() -> None:
    with pytest.raises(ValidationError, match="set them alike"):
        KubernetesSettings(gpus_per_node=4)


def test_nodes_meet_at_the_first_one() -> None:
    several = " ".join(command(RUN, KubernetesSettings(nodes=3, processes_per_node=2)))
    assert "torchrun --nnodes=3 --node-rank=$(JOB_COMPLETION_INDEX)" in several
    assert f"--master-addr={job_name(RUN.id)}-0.reaas-pretrain-workers" in several
    assert "--nproc-per-node=2" in several
    assert "--standalone" in command(RUN, KubernetesSettings())


@pytest.mark.parametrize("resumes", [False, True])
def test_a_pod_resumes_where_there_is_a_checkpoint(tmp_path: Path, resumes: bool) -> None:
    """The very shell line of the pod, with its directories elsewhere and echo for torchrun."""
    (tmp_path / "training").mkdir()
    if resumes:
        (tmp_path / "training" / "checkpoint.pt").touch()
    line = [part.replace("/run-dir", str(tmp_path)) for part in command(RUN, KubernetesSettings())]
    line[line.index("torchrun")] = "echo"
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert said.endswith(" --resume\n") is resumes
    assert f"--out {tmp_path}/training" in said


@pytest.mark.slow
def test_the_pods_command_trains_and_goes_on(tmp_path: Path, pictures: Path) -> None:
    """What the container runs, with torchrun and all, but for where its volumes lie."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    moved = {"/run-dir": str(tmp_path), "/data/pictures": str(pictures)}

    def begin() -> subprocess.CompletedProcess[str]:
        line = command(RUN, KubernetesSettings())
        for inside, outside in moved.items():
            line = [part.replace(inside, outside) for part in line]
        line[line.index("torchrun")] = str(Path(sys.executable).with_name("torchrun"))
        return subprocess.run(line, check=False, text=True, capture_output=True)

    first, second = begin(), begin()
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert len(rows(tmp_path)) == 3
    assert "epoch 3" in first.stdout
    assert "epoch 3" not in second.stdout, "begun anew instead of resumed"
    (tmp_path / "recipe.toml").write_text(RECIPE + "epochz = 1\n")
    third = begin()
    assert third.returncode != 0
    (tmp_path / "output.log").write_text(third.stdout + third.stderr)
    assert "unknown key schedule.epochz" in last_words(tmp_path / "output.log")


async def test_a_run_is_a_job_from_its_making_to_its_end(house: Path, cluster: Cluster) -> None:
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.begin_pod(name, "pod-1")
        output = house / "runs" / run.id / "output.log"
        cluster.logs["pod-1"] = "reading images\nepoch 1\nepo"
        async with asyncio.timeout(30):
            while not output.exists():
                await asyncio.sleep(0.01)
        cluster.logs["pod-1"] = "reading images\nepoch 1\nepoch 2\n"
        cluster.begin_pod(name, "pod-2", "reading images\nepoch 3\n")
        cluster.end_job(name, "Complete", "CompletionsReached")
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_SUCCEEDED
        assert output.read_text().splitlines() == [
            "--- pod pod-1",
            "reading images",
            "epoch 1",
            "epoch 2",
            "--- pod pod-2",
            "reading images",
            "epoch 3",
        ]
        rights = {(method, path.split("/")[-1]) for method, path in cluster.asked}
        # Events are asked for where there is no pod yet.
        assert rights - {("GET", "events")} == {
            ("POST", "jobs"),
            ("GET", name),
            ("GET", "pods"),
            ("GET", "log"),
        }


UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
        }
    ]
}
PULLING = {
    "conditions": [{"type": "PodScheduled", "status": "True"}],
    "containerStatuses": [
        {
            "name": "train",
            "image": "reaas-pretrain:0.1.0",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
        }
    ],
}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (UNSCHEDULABLE, "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."),
        (PULLING, "ErrImagePull: not found"),
    ],
)
async def test_a_run_whose_pod_cannot_start_says_why(
    status: dict[str, Any], why: str, house: Path, cluster: Cluster
) -> None:
    """It waits, and that is no running time; once the pod runs, the run does."""
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.hold_pod(name, "pod-1", status)
        found = await until(stub, run.id, lambda run: "pod-1" in run.reason)
        assert found.state == pb.RUN_STATE_QUEUED
        assert found.reason == f"its pod pod-1 waits: {why}"
        assert not found.HasField("start_time")
        listed = await stub.ListRuns(pb.ListRunsRequest(state=pb.RUN_STATE_QUEUED))
        assert [run.id for run in listed.runs] == [run.id]
        cluster.run_pod("pod-1", "epoch 1\n")
        found = await until(stub, run.id, lambda run: run.state == pb.RUN_STATE_RUNNING)
        assert found.reason == ""
        assert found.HasField("start_time")
        cluster.end_job(name, "Complete")
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_SUCCEEDED


async def test_a_run_that_a_quota_lets_no_pod_says_why(house: Path, cluster: Cluster) -> None:
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.warn(name, "FailedCreate", "pods is forbidden: exceeded quota: small")
        found = await until(stub, run.id, lambda run: "quota" in run.reason)
        assert found.state == pb.RUN_STATE_QUEUED
        assert found.reason == (
            "it has no pod yet: FailedCreate: pods is forbidden: exceeded quota: small"
        )


async def test_a_volume_that_cannot_be_mounted_is_named(house: Path, cluster: Cluster) -> None:
    creating = {
        "name": "train",
        "image": "reaas-pretrain:0.1.0",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": "ContainerCreating"}},
    }
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.warn("pod-1", "FailedMount", "claim reaas-data: not bound")
        cluster.hold_pod(name, "pod-1", {"containerStatuses": [creating]})
        found = await until(stub, run.id, lambda run: "pod-1" in run.reason)
        assert found.reason == "its pod pod-1 waits: FailedMount: claim reaas-data: not bound"


async def test_a_waiting_run_can_be_cancelled(house: Path, cluster: Cluster) -> None:
    async with service(house, launcher="kubernetes", cancel_grace_s=0.3) as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.hold_pod(name, "pod-1", UNSCHEDULABLE)
        await until(stub, run.id, lambda run: "pod-1" in run.reason)
        await stub.CancelRun(pb.CancelRunRequest(run_id=run.id))
        async with asyncio.timeout(30):
            while "deletionTimestamp" not in cluster.jobs[name]["metadata"]:
                await asyncio.sleep(0.01)
        cluster.end_pods(name)
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_CANCELLED


def test_all_nodes_of_a_run_must_have_begun(cluster: Cluster) -> None:
    cluster.begin_pod("job", "first")
    cluster.hold_pod("job", "second", UNSCHEDULABLE)
    cluster.pods[-1]["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] = "1"
    config.load_kube_config()  # type: ignore[no-untyped-call]
    with client.ApiClient() as api:
        core: Any = client.CoreV1Api(api)
        pods = core.list_namespaced_pod(
            "reaas", label_selector="batch.kubernetes.io/job-name=job"
        ).items
    assert why_waiting("job", pods, 1, lambda _: []) == ""
    assert why_waiting("job", pods, 2, lambda _: []).startswith("its pod second waits: Unsched")


async def test_workers_run_the_image_of_the_services_own_pod(
    house: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an overlay or a chart made of its name, with the secrets that pull it."""
    monkeypatch.delenv("REAAS_KUBERNETES__IMAGE")
    image = "registry.example/team/reaas-pretrain@sha256:" + "0" * 64
    cluster.begin_pod("none", "reaas-pretrain-abc")
    cluster.pods[-1]["spec"] = {
        "containers": [{"name": "pretrain", "image": image}],
        "imagePullSecrets": [{"name": "registry"}],
    }
    settings = KubernetesSettings(pod="reaas-pretrain-abc")
    async with service(house, launcher="kubernetes", kubernetes=settings) as (_, stub):
        name = await job_of(cluster, await create(stub))
    pod = cluster.jobs[name]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == image
    assert pod["imagePullSecrets"] == [{"name": "registry"}]


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (KubernetesSettings(), "set REAAS_KUBERNETES__IMAGE or"),
        (KubernetesSettings(pod="gone"), "'gone', which is not in namespace 'reaas'"),
    ],
)
async def test_without_an_image_the_service_says_so(
    settings: KubernetesSettings,
    why: str,
    house: Path,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("REAAS_KUBERNETES__IMAGE")
    with pytest.raises(ConfigurationError, match=why):
        async with service(house, launcher="kubernetes", kubernetes=settings):
            pass


async def test_a_failed_job_says_why(house: Path, cluster: Cluster) -> None:
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.begin_pod(name, "pod-1", "Error: no file tiny_imagenet.npz\n")
        message = "Job has reached the specified backoff limit"
        cluster.end_job(name, "Failed", "BackoffLimitExceeded", message)
        found = await ended(stub, run.id)
        assert found.state == pb.RUN_STATE_FAILED
        assert found.reason == (
            f"Error: no file tiny_imagenet.npz (BackoffLimitExceeded: {message})"
        )


async def test_a_run_ends_though_its_node_is_gone(house: Path, cluster: Cluster) -> None:
    """Nobody can read the pod's log any more; how the job ended is known all the same."""
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        cluster.begin_pod(name, "pod-1", "epoch 1\n")
        cluster.nodes_answer = False
        cluster.end_job(name, "Complete", "CompletionsReached")
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_SUCCEEDED


async def test_cancelling_deletes_the_job(house: Path, cluster: Cluster) -> None:
    """The run is cancelled when the job is gone, which it is when its pods are."""
    async with service(house, launcher="kubernetes", cancel_grace_s=0.3) as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        await stub.CancelRun(pb.CancelRunRequest(run_id=run.id))
        async with asyncio.timeout(30):
            while "deletionTimestamp" not in cluster.jobs[name]["metadata"]:
                await asyncio.sleep(0.01)
        assert (await get(stub, run.id)).cancelling
        grace = cluster.jobs[name]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace == 1, "the kubelet kills after the grace of the settings"
        cluster.end_pods(name)
        assert (await ended(stub, run.id)).state == pb.RUN_STATE_CANCELLED
        assert not cluster.jobs


async def test_a_job_that_somebody_deleted_is_made_again(house: Path, cluster: Cluster) -> None:
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        del cluster.jobs[name]
        found = await until(stub, run.id, lambda run: run.restarts == 1)
        await job_of(cluster, run)
        cluster.end_job(name, "Complete")
        found = await ended(stub, run.id)
        assert (found.state, found.restarts) == (pb.RUN_STATE_SUCCEEDED, 1)


async def test_jobs_go_on_while_the_service_is_away(house: Path, cluster: Cluster) -> None:
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
    cluster.end_job(name, "Complete")
    async with service(house, launcher="kubernetes") as (_, stub):
        found = await ended(stub, run.id)
        assert (found.state, found.restarts) == (pb.RUN_STATE_SUCCEEDED, 0)
    assert [asked for asked in cluster.asked if asked[0] == "POST"] == [
        ("POST", "/apis/batch/v1/namespaces/reaas/jobs")
    ]


async def test_workers_of_one_run_reach_each_other_only(house: Path, cluster: Cluster) -> None:
    settings = KubernetesSettings(nodes=2, image="reaas-pretrain:0.1.0")
    async with service(house, launcher="kubernetes", kubernetes=settings) as (_, stub):
        run = await create(stub)
        name = await job_of(cluster, run)
        async with asyncio.timeout(30):
            while not cluster.policies:
                await asyncio.sleep(0.01)
    [policy] = cluster.policies
    [owner] = policy["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Job", f"uid-{name}")
    mine = {"matchLabels": {"reaas.dev/run": run.id}}
    labels = cluster.jobs[name]["spec"]["template"]["metadata"]["labels"]
    assert mine["matchLabels"].items() <= labels.items()
    assert policy["spec"]["podSelector"] == mine
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": mine}]}]
    assert policy["spec"]["egress"] == [{"to": [{"podSelector": mine}]}]


async def test_a_cluster_that_is_away_for_a_while_loses_nothing(
    house: Path, cluster: Cluster
) -> None:
    async with service(house, launcher="kubernetes") as (server, stub):
        running = await create(stub)
        name = await job_of(cluster, running)
        cluster.refuse = 503
        asked = len(cluster.asked)
        async with asyncio.timeout(30):
            while len(cluster.asked) < asked + 3:
                await asyncio.sleep(0.01)
        assert (await get(stub, running.id)).state == pb.RUN_STATE_RUNNING
        assert server.servicer.usable
        cluster.refuse = None
        cluster.end_job(name, "Complete")
        assert (await ended(stub, running.id)).state == pb.RUN_STATE_SUCCEEDED


async def test_a_cluster_that_refuses_a_job_is_asked_again(
    house: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reaas_pretrain.service.supervisor._LAUNCH_AGAIN_S", 0.2)
    cluster.refuse = 403
    async with service(house, launcher="kubernetes") as (_, stub):
        run = await create(stub)
        found = await until(stub, run.id, lambda run: run.reason != "")
        assert found.state == pb.RUN_STATE_QUEUED
        assert found.reason == "its job cannot be made: 403 Forbidden"
        cluster.refuse = None
        cluster.end_job(await job_of(cluster, run), "Complete")
        found = await ended(stub, run.id)
        assert (found.state, found.reason) == (pb.RUN_STATE_SUCCEEDED, "")


def test_making_a_job_twice_is_one_job(house: Path, cluster: Cluster) -> None:
    config.load_kube_config()  # type: ignore[no-untyped-call]
    with client.ApiClient() as api:
        launcher = KubernetesLauncher(
            _NoStore(),  # type: ignore[arg-type]
            api,
            KubernetesSettings(),
            max_restarts=3,
            grace_s=10.0,
        )
        launcher.start(RUN)
        launcher.start(RUN)
        assert list(cluster.jobs) == [job_name(RUN.id)]
        launcher.stop(RUN, force=False)
        with pytest.raises(LaunchError, match="still being deleted"):
            launcher.start(RUN)
        launcher.stop(RUN, force=True)
        cluster.end_pods(job_name(RUN.id))
        launcher.stop(RUN, force=True)


class _NoStore:
    """For a launcher that is not asked for output."""


async def test_without_a_cluster_the_service_says_so(
    house: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "absent")
    )
    with pytest.raises(ConfigurationError, match="set KUBECONFIG"):
        async with service(house, launcher="kubernetes"):
            pass


def test_output_of_pods_is_appended_once(tmp_path: Path) -> None:
    file = tmp_path / "output.log"
    append_output(file, "a", [])
    assert not file.exists()
    append_output(file, "a", ["1\n"])
    append_output(file, "a", ["1\n", "2\n"])
    append_output(file, "b", ["1\n"])
    append_output(file, "a", ["1\n", "2\n", "3\n"])
    append_output(file, "b", ["1\n"])
    assert file.read_text() == "--- pod a\n1\n2\n--- pod b\n1\n"


@pytest.mark.skipif(
    not Path(os.environ.get("KUBECONFIG", "/nonexistent")).is_file(),
    reason="needs a cluster: set KUBECONFIG",
)
def test_a_real_api_server_takes_the_job() -> None:
    """A dry run: admission and Pod Security look at the job, nothing is made."""
    config.load_kube_config()  # type: ignore[no-untyped-call]
    with client.ApiClient() as api:
        settings = KubernetesSettings(namespace="default", nodes=2, gpus_per_node=1)
        batch: Any = client.BatchV1Api(api)
        body = job(RUN, settings, max_restarts=3, grace_s=10.0)
        made = batch.create_namespaced_job("default", body, dry_run="All")
        assert made.metadata.name == job_name(RUN.id)
