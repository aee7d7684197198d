"""The Kubernetes object that computes a run: an Indexed Job of torchrun workers.

It meets the Pod Security Standard "restricted". Kubernetes itself begins pods again that fail; each
one goes on from the checkpoint. Pods that are evicted do not count as failures.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from reaas_pretrain.checkpoint import CHECKPOINT
from reaas_pretrain.service.recipes import image_arguments
from reaas_pretrain.service.run import Run
from reaas_pretrain.service.settings import KubernetesSettings
from reaas_pretrain.service.store import RECIPE, TRAINING

RUN_LABEL = "reaas.dev/run"
INDEX_LABEL = "batch.kubernetes.io/job-completion-index"
CONTAINER = "train"
_RUN_DIR, _DATA, _SCRATCH = "/run-dir", PurePosixPath("/data"), "/tmp"
_MASTER_PORT = 29500
# A pod that begins again finds a checkpoint where the first one found none.
_RESUME = f'[ -f {_RUN_DIR}/{TRAINING}/{CHECKPOINT} ] && set -- "$@" --resume; exec "$@"'


def job_name(run_id: str) -> str:
    """Name of a run's Job: at most one can exist."""
    return f"reaas-pretrain-{run_id}"


def job(
    run: Run, settings: KubernetesSettings, *, max_restarts: int, grace_s: float
) -> dict[str, Any]:
    """The Job of `run` as the API server takes it.

    Its pods are killed `grace_s` seconds, and at least one, after they were asked to end.
    """
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(run.id),
            "namespace": settings.namespace,
            "labels": _labels(run),
            "ownerReferences": _owners(settings),
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": settings.nodes,
            "parallelism": settings.nodes,
            # Pods of one attempt fail together.
            "backoffLimit": max_restarts * settings.nodes,
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "ttlSecondsAfterFinished": settings.ttl_s,
            "template": {
                "metadata": {"labels": _labels(run)},
                "spec": _pod(run, settings, grace_s),
            },
        },
    }


def network_policy(run: Run, settings: KubernetesSettings, job_uid: str) -> dict[str, Any]:
    """Lets the workers of `run` reach each other, and no other run's; it goes with the Job.

    Gloo and nccl choose their ports themselves. Policies cannot say "with the same label", so each
    run of several nodes has one.
    """
    mine = {"matchLabels": {RUN_LABEL: run.id}}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job_name(run.id), "uid": job_uid}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": job_name(run.id),
            "namespace": settings.namespace,
            "labels": _labels(run),
            "ownerReferences": [owner],
        },
        "spec": {
            "podSelector": mine,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": mine}]}],
            "egress": [{"to": [{"podSelector": mine}]}],
        },
    }


def command(run: Run, settings: KubernetesSettings) -> list[str]:
    """What each pod runs. The kubelet puts the pod's index in the place of the variable."""
    if settings.nodes == 1:
        meeting = ["--standalone"]
    else:
        meeting = ["--node-rank=$(JOB_COMPLETION_INDEX)", f"--master-port={_MASTER_PORT}"]
        meeting += [f"--master-addr={job_name(run.id)}-0.{settings.subdomain}"]
    torchrun = ["torchrun", f"--nnodes={settings.nodes}", *meeting]
    torchrun += [f"--nproc-per-node={settings.processes_per_node}", "-m", "reaas_pretrain", "train"]
    torchrun += ["--recipe", f"{_RUN_DIR}/{RECIPE}", *image_arguments(run.spec, _DATA)]
    return ["/bin/sh", "-c", _RESUME, "train", *torchrun, "--out", f"{_RUN_DIR}/{TRAINING}"]


def _pod(run: Run, settings: KubernetesSettings, grace_s: float) -> dict[str, Any]:
    return {
        # A pod that failed stays to be read; the Job makes another one.
        "restartPolicy": "Never",
        # With 0 a pod would be gone from the API server before its processes are.
        "terminationGracePeriodSeconds": max(1, math.ceil(grace_s)),
        "subdomain": settings.subdomain,
        "imagePullSecrets": [{"name": name} for name in settings.pull_secrets],
        "tolerations": _tolerations(settings),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": settings.user,
            "runAsGroup": settings.user,
            "fsGroup": settings.user,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(run, settings)],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": settings.runs_claim}},
            {
                "name": "data",
                "persistentVolumeClaim": {"claimName": settings.data_claim, "readOnly": True},
            },
            {"name": "scratch", "emptyDir": {"sizeLimit": settings.scratch}},
            # Processes of one pod exchange gradients through it; 64 MiB by default are too few.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.scratch}},
        ],
    }


def _container(run: Run, settings: KubernetesSettings) -> dict[str, Any]:
    cpus = int(parse_quantity(settings.cpu))  # type: ignore[no-untyped-call]
    threads = max(1, cpus // settings.processes_per_node)
    resources = {"cpu": settings.cpu, "memory": settings.memory}
    if settings.gpus_per_node:
        resources[settings.gpu_resource] = str(settings.gpus_per_node)
    return {
        "name": CONTAINER,
        "image": settings.image,
        "command": command(run, settings),
        "env": [
            {"name": "HOME", "value": _SCRATCH},
            {"name": "PYTHONUNBUFFERED", "value": "1"},
            {"name": "COLUMNS", "value": "200"},
            # torch would start a thread for every core of the node.
            {"name": "OMP_NUM_THREADS", "value": str(threads)},
        ],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "runs", "mountPath": _RUN_DIR, "subPath": run.id},
            {"name": "data", "mountPath": str(_DATA), "readOnly": True},
            {"name": "scratch", "mountPath": _SCRATCH},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }


def _tolerations(settings: KubernetesSettings) -> list[dict[str, Any]]:
    """Nodes with GPUs are often kept free of what needs none."""
    if not settings.gpus_per_node:
        return []
    return [{"key": settings.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}]


def _labels(run: Run) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "reaas-pretrain",
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "reaas",
        "app.kubernetes.io/managed-by": "reaas-pretrain-service",
        RUN_LABEL: run.id,
    }


def _owners(settings: KubernetesSettings) -> list[dict[str, Any]]:
    owner = settings.owner
    if owner is None:
        return []
    return [
        {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "name": owner.name,
            "uid": owner.uid,
        }
    ]
