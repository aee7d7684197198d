"""Runs as Kubernetes Jobs.

Rights that the service's account needs in the namespace: jobs create, get, delete; pods list;
pods/log get; events list; networkpolicies create. Jobs are looked at one by one at every round of
the supervisor: a lost watch has nothing to catch up with, and there are few runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from reaas_pretrain.service.kubernetes_job import (
    CONTAINER,
    INDEX_LABEL,
    job,
    job_name,
    network_policy,
)
from reaas_pretrain.service.kubernetes_pods import why_waiting
from reaas_pretrain.service.launcher import End, LaunchError, Outcome, Waiting, last_words
from reaas_pretrain.service.run import Run
from reaas_pretrain.service.settings import KubernetesSettings
from reaas_pretrain.service.store import OUTPUT, RunStore

TIMEOUT_S = 10.0
# Pods are looked at and output is copied this often: it is for people, and the API server has
# better things to do.
_PODS_EVERY_S = 5.0
_LONGEST_OUTPUT = 4 << 20
_NOT_FOUND, _CONFLICT, _BAD_REQUEST = 404, 409, 400

_log = structlog.get_logger("reaas.runs")


class KubernetesLauncher:
    """Runs as Indexed Jobs; they go on while the service is away."""

    name = "kubernetes"
    outlives_service = True

    def __init__(
        self,
        store: RunStore,
        api: client.ApiClient,
        settings: KubernetesSettings,
        *,
        max_restarts: int,
        grace_s: float,
    ) -> None:
        self._store = store
        # The generated classes' annotations forbid plain objects, and say that all may be None.
        self._batch: Any = client.BatchV1Api(api)
        self._core: Any = client.CoreV1Api(api)
        self._networking: Any = client.NetworkingV1Api(api)
        self._settings = settings
        self._max_restarts, self._grace_s = max_restarts, grace_s
        self._looked: dict[str, tuple[float, Waiting | None]] = {}

    def start(self, run: Run) -> None:
        """As `Launcher.start`."""
        body = job(run, self._settings, max_restarts=self._max_restarts, grace_s=self._grace_s)
        with _asking("its job cannot be made"):
            try:
                self._batch.create_namespaced_job(
                    self._settings.namespace, body, _request_timeout=TIMEOUT_S
                )
            except ApiException as error:
                if error.status != _CONFLICT:
                    raise
                if self._read(run).metadata.deletion_timestamp is not None:
                    why = "the job of its last attempt is still being deleted"
                    raise LaunchError(why) from error
        if self._settings.nodes > 1:
            self._let_workers_meet(run)

    def look(self, run: Run) -> Outcome | Waiting | None:
        """As `Launcher.look`."""
        with _asking("its job cannot be looked at"):
            try:
                found = self._read(run)
            except ApiException as error:
                if error.status == _NOT_FOUND:
                    return Outcome(End.DIED, "its job was deleted")
                raise
            ended = {c.type: c for c in found.status.conditions or () if c.status == "True"}
            over = bool(ended.keys() & {"Complete", "Failed"})
            waiting = self._look_at_pods(run, last=over)
        if "Complete" in ended:
            return Outcome(End.SUCCEEDED)
        if "Failed" in ended:
            return Outcome(End.FAILED, self._why(run, ended["Failed"]))
        return waiting

    def stop(self, run: Run, *, force: bool) -> None:
        """As `Launcher.stop`; `force` adds nothing: kubelets kill what outlives the pods' grace."""
        with _asking("its job cannot be deleted"):
            try:
                self._batch.delete_namespaced_job(
                    job_name(run.id),
                    self._settings.namespace,
                    # The job is there until its pods are gone, so that no two attempts meet.
                    propagation_policy="Foreground",
                    _request_timeout=TIMEOUT_S,
                )
            except ApiException as error:
                if error.status != _NOT_FOUND:
                    raise

    def _let_workers_meet(self, run: Run) -> None:
        with _asking("the network of its workers cannot be opened"):
            policy = network_policy(run, self._settings, self._read(run).metadata.uid)
            try:
                self._networking.create_namespaced_network_policy(
                    self._settings.namespace, policy, _request_timeout=TIMEOUT_S
                )
            except ApiException as error:
                if error.status != _CONFLICT:
                    raise

    def _read(self, run: Run) -> Any:
        return self._batch.read_namespaced_job(
            job_name(run.id), self._settings.namespace, _request_timeout=TIMEOUT_S
        )

    def _why(self, run: Run, condition: Any) -> str:
        said = last_words(self._store.directory(run.id) / OUTPUT)
        about = ": ".join(filter(None, (condition.reason, condition.message)))
        return f"{said} ({about})" if said else about

    def _look_at_pods(self, run: Run, *, last: bool) -> Waiting | None:
        """Bring the run's output up to date, and say why it does not compute, where it does not."""
        now = time.monotonic()
        looked, waiting = self._looked.get(run.id, (-_PODS_EVERY_S, None))
        if not last and now - looked < _PODS_EVERY_S:
            return waiting
        name = job_name(run.id)
        pods = self._core.list_namespaced_pod(
            self._settings.namespace,
            label_selector=f"batch.kubernetes.io/job-name={name}",
            _request_timeout=TIMEOUT_S,
        ).items
        self._copy_output(run, pods)
        why = "" if last else why_waiting(name, pods, self._settings.nodes, self._warnings)
        self._looked[run.id] = (now, Waiting(why) if why else None)
        return self._looked.pop(run.id)[1] if last else self._looked[run.id][1]

    def _copy_output(self, run: Run, pods: list[Any]) -> None:
        """What the pods of the first node have printed since the last time."""
        output = self._store.directory(run.id) / OUTPUT
        for pod in sorted(pods, key=lambda pod: pod.metadata.creation_timestamp):
            if pod.metadata.labels.get(INDEX_LABEL) == "0":
                append_output(output, pod.metadata.name, self._log_of(pod.metadata.name))

    def _warnings(self, name: str) -> list[Any]:
        """The warnings about a pod or job; none where they cannot be read: they only explain."""
        try:
            found = self._core.list_namespaced_event(
                self._settings.namespace,
                field_selector=f"involvedObject.name={name},type=Warning",
                _request_timeout=TIMEOUT_S,
            )
        except ApiException as error:
            _log.warning("events cannot be read", about=name, why=str(error.reason))
            return []
        stamped = [(_time_of(event), event) for event in found.items]
        return [event for _, event in sorted(stamped, key=lambda pair: pair[0])]

    def _log_of(self, pod: str) -> list[str]:
        """Whole lines that a pod has printed; none while its container is being made.

        None either where its node does not answer: output is for people, and must not keep the
        service from seeing how the job ended.
        """
        try:
            response = self._core.read_namespaced_pod_log(
                pod,
                self._settings.namespace,
                container=CONTAINER,
                limit_bytes=_LONGEST_OUTPUT,
                _preload_content=False,
                _request_timeout=TIMEOUT_S,
            )
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) not in (_BAD_REQUEST, _NOT_FOUND):
                _log.warning("log of a pod cannot be read", pod=pod, why=str(error))
            return []
        text: str = response.data.decode(errors="replace")
        return text[: text.rfind("\n") + 1].splitlines(keepends=True)


def append_output(output: Path, pod: str, lines: list[str]) -> None:
    """Append what is new of the lines of `pod` below a line with its name.

    Pods of one run follow each other: only the last one in the file can have more to say.
    """
    header = f"--- pod {pod}\n"
    known = output.read_text(errors="replace") if output.exists() else ""
    _, found, copied = known.rpartition(header)
    if found and "--- pod " in copied:
        return
    new = lines[copied.count("\n") :] if found else [header, *lines]
    if lines and new:
        with output.open("a") as file:
            file.writelines(new)


def _time_of(event: Any) -> str:
    """When it was last seen, as text that sorts: Kubernetes' own parts fill three fields."""
    known = event.last_timestamp or event.event_time or event.metadata.creation_timestamp
    return known.isoformat() if known else ""


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Refusals and lost connections of the API server as LaunchError."""
    try:
        yield
    except ApiException as error:
        raise LaunchError(f"{what}: {error.status} {error.reason}") from error
    except HTTPError as error:
        raise LaunchError(f"{what}: {error}") from error
