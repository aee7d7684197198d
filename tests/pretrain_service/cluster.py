"""A Kubernetes API server as far as the launcher speaks to one: jobs, pods and logs over HTTP.

Objects have the fields that a real one (1.32) answers with. Every object that is made is held
against Kubernetes' own schema first.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

TIME = "2026-11-22T17:00:{:02d}Z"


@dataclass
class Cluster:
    """What is in the namespace, and what was asked of the server."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    refuse: int | None = None
    """Status that everything is answered with."""
    nodes_answer: bool = True
    """Whether kubelets give the API server the pods' logs."""

    def begin_pod(self, job: str, name: str, log: str = "") -> None:
        """The job controller makes a pod of the first node."""
        labels = {
            "batch.kubernetes.io/job-name": job,
            "batch.kubernetes.io/job-completion-index": "0",
        }
        self.pods.append(
            {
                "metadata": {
                    "name": name,
                    "labels": labels,
                    "creationTimestamp": TIME.format(len(self.pods)),
                },
                "status": {"phase": "Running"},
            }
        )
        self.logs[name] = log

    def hold_pod(self, job: str, name: str, status: dict[str, Any]) -> None:
        """The job controller makes a pod that does not run; `status` is what is said of it."""
        self.begin_pod(job, name)
        self.pods[-1]["status"] = {"phase": "Pending"} | status

    def run_pod(self, name: str, log: str) -> None:
        """A pod that was held runs."""
        [pod] = [pod for pod in self.pods if pod["metadata"]["name"] == name]
        pod["status"] = {"phase": "Running"}
        self.logs[name] = log

    def warn(self, about: str, reason: str, message: str) -> None:
        """An event of type Warning about a pod or job."""
        second = TIME.format(len(self.events))
        self.events.append(
            {
                "metadata": {"name": f"{about}.{len(self.events)}", "creationTimestamp": second},
                "involvedObject": {"name": about},
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": second,
            }
        )

    def end_job(self, job: str, kind: str, reason: str = "", message: str = "") -> None:
        """The job controller reports the end: kind "Complete" or "Failed"."""
        before = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
        self.jobs[job]["status"] = {
            "conditions": [
                {
                    "type": condition,
                    "status": "True",
                    "reason": reason,
                    "message": message,
                    "lastProbeTime": TIME.format(30),
                    "lastTransitionTime": TIME.format(30),
                }
                for condition in (before, kind)
            ]
        }

    def end_pods(self, job: str) -> None:
        """The last pod of a job that is being deleted is gone, and so is the job."""
        assert "deletionTimestamp" in self.jobs[job]["metadata"]
        del self.jobs[job]

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON (or text) of one request."""
        url = urlsplit(target)
        path, query = url.path.strip("/").split("/"), parse_qs(url.query)
        self.asked.append((method, url.path))
        if self.refuse is not None:
            return self.refuse, _status(self.refuse, "refused")
        match method, path:
            case "POST", ["apis", "batch", "v1", "namespaces", _, "jobs"]:
                return self._create(json.loads(body))
            case "GET", ["apis", "batch", "v1", "namespaces", _, "jobs", name]:
                return self._found(name)
            case "DELETE", ["apis", "batch", "v1", "namespaces", _, "jobs", name]:
                return self._delete(name, query)
            case "GET", ["api", "v1", "namespaces", _, "pods"]:
                return 200, {"kind": "PodList", "apiVersion": "v1", "items": self._select(query)}
            case "POST", ["apis", "networking.k8s.io", "v1", "namespaces", _, "networkpolicies"]:
                return self._create_policy(json.loads(body))
            case "GET", ["api", "v1", "namespaces", _, "events"]:
                return 200, {"kind": "EventList", "apiVersion": "v1", "items": self._about(query)}
            case "GET", ["api", "v1", "namespaces", _, "pods", name, "log"]:
                if not self.nodes_answer:
                    return 500, _status(500, "dial tcp 10.0.0.7:10250: connect: connection refused")
                if self.logs[name] == "":
                    return 400, _status(400, "container is waiting to start: ContainerCreating")
                return 200, self.logs[name]
        return 403, _status(403, f"{method} {url.path} is more than the service's rights")

    def _create(self, job: dict[str, Any]) -> tuple[int, Any]:
        kubernetes_validate.validate(job, "1.32", strict=True)
        name = job["metadata"]["name"]
        if name in self.jobs:
            return 409, _status(409, "AlreadyExists")
        metadata = job["metadata"] | {"uid": f"uid-{name}", "creationTimestamp": TIME.format(0)}
        self.jobs[name] = job | {"metadata": metadata, "status": {"active": 1, "ready": 1}}
        return 201, self.jobs[name]

    def _create_policy(self, policy: dict[str, Any]) -> tuple[int, Any]:
        kubernetes_validate.validate(policy, "1.32", strict=True)
        name = policy["metadata"]["name"]
        if any(name == known["metadata"]["name"] for known in self.policies):
            return 409, _status(409, "AlreadyExists")
        self.policies.append(policy)
        return 201, policy

    def _found(self, name: str) -> tuple[int, Any]:
        job = self.jobs.get(name)
        return (200, job) if job else (404, _status(404, "NotFound"))

    def _delete(self, name: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Foreground: the job is there until its pods are gone, whatever grace is asked for."""
        if name not in self.jobs:
            return 404, _status(404, "NotFound")
        assert query["propagationPolicy"] == ["Foreground"]
        self.jobs[name]["metadata"]["deletionTimestamp"] = TIME.format(40)
        return 200, _status(200, "")

    def _select(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        if "fieldSelector" in query:
            name = query["fieldSelector"][0].removeprefix("metadata.name=")
            return [p for p in self.pods if p["metadata"]["name"] == name]
        wanted = dict(part.split("=") for part in query["labelSelector"][0].split(","))
        return [p for p in self.pods if wanted.items() <= p["metadata"]["labels"].items()]

    def _about(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        about, kind = query["fieldSelector"][0].split(",")
        assert kind == "type=Warning"
        name = about.removeprefix("involvedObject.name=")
        return [e for e in self.events if e["involvedObject"]["name"] == name]


@contextmanager
def api_server() -> Iterator[tuple[Cluster, str]]:
    """A cluster and the URL of its API server."""
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, content = cluster.answer(self.command, self.path, self.rfile.read(length))
            raw = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            kind = "text/plain" if isinstance(content, str) else "application/json"
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield cluster, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _status(code: int, reason: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success" if code == 200 else "Failure",
        "message": reason,
        "reason": reason,
        "code": code,
    }
