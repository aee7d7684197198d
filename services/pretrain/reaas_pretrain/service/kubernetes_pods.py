"""Why a run's pods do not run yet, in words for the person who waits for them.

A Job counts as begun as soon as its object is there; nothing in it tells that no node has room,
that an image cannot be pulled, or that a quota lets no pod be made. Pods' conditions, their
containers' waiting reasons and the warnings about them do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reaas_pretrain.service.kubernetes_job import INDEX_LABEL

# Of a pod that needs nothing but a moment.
_SOON = ("ContainerCreating", "PodInitializing")
_LONGEST_REASON = 500  # characters: schedulers name every node

Warnings = Callable[[str], Sequence[Any]]
"""Name of a pod or job -> the events of type Warning about it, oldest first."""


def why_waiting(job: str, pods: Sequence[Any], nodes: int, warnings: Warnings) -> str:
    """Why the run of `job` does not compute yet; empty where all its `nodes` pods have begun.

    pods: the job's, as the API server lists them, those of earlier attempts too.
    """
    begun = {_index(pod) for pod in pods if pod.status.phase in ("Running", "Succeeded")}
    if len(begun) >= nodes:
        return ""
    held = [pod for pod in pods if pod.status.phase == "Pending" and _index(pod) not in begun]
    if held:
        return _cut(f"its pod {held[0].metadata.name} waits: {_held_by(held[0], warnings)}")
    return _cut(f"it has no pod yet: {_last(warnings(job)) or 'its job was made just now'}")


def _held_by(pod: Any, warnings: Warnings) -> str:
    """What keeps a pending pod from running."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return _sentence(condition.reason, condition.message)
    statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    waiting = [s.state.waiting for s in statuses if s.state is not None and s.state.waiting]
    stuck = [state for state in waiting if state.reason not in _SOON]
    if stuck:
        return _sentence(stuck[0].reason, stuck[0].message)
    # A volume that cannot be mounted shows here only.
    warned = _last(warnings(pod.metadata.name))
    return warned or (waiting[0].reason if waiting else "no node has looked at it yet")


def _last(events: Sequence[Any]) -> str:
    return _sentence(events[-1].reason, events[-1].message) if events else ""


def _sentence(reason: str | None, message: str | None) -> str:
    return ": ".join(filter(None, (reason, " ".join((message or "").split()))))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 3] + "..."


def _index(pod: Any) -> str:
    labels: dict[str, str] = pod.metadata.labels or {}
    return labels.get(INDEX_LABEL, "0")
