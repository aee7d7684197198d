"""Finds the cluster that the service runs in, and the image that its workers run."""

from __future__ import annotations

from typing import Any

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from reaas_runtime import ConfigurationError
from urllib3.exceptions import HTTPError

from reaas_pretrain.service.kubernetes_launcher import TIMEOUT_S, KubernetesLauncher
from reaas_pretrain.service.settings import KubernetesSettings, PretrainSettings
from reaas_pretrain.service.store import RunStore


def connect(settings: PretrainSettings, store: RunStore) -> KubernetesLauncher:
    """A launcher in the cluster that this pod, or KUBECONFIG, is in. Raises ConfigurationError."""
    try:
        _load_config()
    except config.ConfigException as error:
        raise ConfigurationError(
            f"launcher is kubernetes, but there is no cluster: {error}; run in a pod with a "
            "service account, or set KUBECONFIG"
        ) from error
    api = client.ApiClient()
    return KubernetesLauncher(
        store,
        api,
        with_image(settings.kubernetes, client.CoreV1Api(api)),
        max_restarts=settings.max_restarts,
        grace_s=settings.cancel_grace_s,
    )


def with_image(settings: KubernetesSettings, core: Any) -> KubernetesSettings:
    """Settings that name the workers' image. Raises ConfigurationError where nothing tells it.

    An operator renames images for a registry (kustomize's `images:`, a chart's values); the pod of
    the service knows the outcome, which no variable beside it could.
    """
    if settings.image:
        return settings
    if not settings.pod:
        raise ConfigurationError(
            "kubernetes.image names no image for the workers, and kubernetes.pod no pod whose "
            "image they could take: set REAAS_KUBERNETES__IMAGE or REAAS_KUBERNETES__POD"
        )
    try:
        found = core.list_namespaced_pod(
            settings.namespace,
            field_selector=f"metadata.name={settings.pod}",
            _request_timeout=TIMEOUT_S,
        ).items
    except (ApiException, HTTPError) as error:
        why = getattr(error, "reason", error)
        raise ConfigurationError(
            f"the image of pod {settings.pod!r} cannot be asked for: {why}"
        ) from error
    if not found:
        raise ConfigurationError(
            f"kubernetes.pod is {settings.pod!r}, which is not in namespace {settings.namespace!r}"
        )
    pod = found[0].spec
    secrets = tuple(secret.name for secret in pod.image_pull_secrets or ())
    return settings.model_copy(update={"image": pod.containers[0].image, "pull_secrets": secrets})


def _load_config() -> None:
    """The cluster of the pod that this is, else the one that KUBECONFIG names."""
    try:
        config.load_incluster_config()  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config()  # type: ignore[no-untyped-call]
