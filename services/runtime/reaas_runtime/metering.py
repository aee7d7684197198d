"""What callers pay for, and how calls went, as Prometheus metrics on a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from reaas.v1 import model_pb2

from reaas_runtime.errors import Reason
from reaas_runtime.identity import ANONYMOUS, OTHER

# Each gRPC message travels behind a 5-byte header: 1 byte of flags, 4 bytes of length.
FRAME_BYTES = 5

_COST = ("client", "api", "scheme", "phase", "model")
_RPC = ("grpc_type", "grpc_service", "grpc_method")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_SKIPS = ("gone", "deadline")
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Cost:
    """What one answered message cost. `api` is "feature" or "f2iperturb"."""

    api: str
    model: str
    queries: int
    compute_seconds: float

    def certificates(self, scheme: str, draws: int) -> float:
        """Certificates that this message amounts to, where one takes ``draws`` as SEaaS.

        A radius is one of REaaS; SEaaS needs ``draws`` features for one; else none.
        """
        match scheme, self.api:
            case "reaas", "f2iperturb":
                return float(self.queries)
            case "seaas", "feature":
                return self.queries / draws
        return 0.0


@dataclass(frozen=True)
class RpcName:
    """Labels of one method under the names that gRPC dashboards know."""

    kind: str
    service: str
    method: str

    def labels(self) -> tuple[str, str, str]:
        """Values in the order of the RED metrics' labels."""
        return self.kind, self.service, self.method


class Meter:
    """All metrics of one service process.

    Client labels are bounded: the first clients to be known by name, everybody else as "other".
    """

    def __init__(self, max_metered_clients: int) -> None:
        self.registry = registry = CollectorRegistry()
        self._max_metered_clients = max_metered_clients
        self._metered_clients: set[str] = set()
        self._begun: set[tuple[str, ...]] = set()
        self._queries = Counter("reaas_queries", "Inputs answered.", _COST, registry=registry)
        self._request_bytes = Counter(
            "reaas_request_bytes",
            "Bytes of answered messages, with frame.",
            _COST,
            registry=registry,
        )
        self._response_bytes = Counter(
            "reaas_response_bytes", "Bytes of answers, with frame.", _COST, registry=registry
        )
        self._compute = Counter(
            "reaas_compute_seconds", "Worker time of answers.", _COST, registry=registry
        )
        declared = ("client", "scheme", "phase", "model")
        self._certificates = Counter(
            "reaas_declared_certificates",
            "Certificates whose clients declared what one takes as SEaaS.",
            declared,
            registry=registry,
        )
        self._draws = Counter(
            "reaas_declared_draws",
            "Queries that these certificates take as SEaaS.",
            declared,
            registry=registry,
        )
        self._refused = Counter(
            "reaas_refused", "Calls refused, by reason.", ("reason",), registry=registry
        )
        self._started = Counter("grpc_server_started", "Calls begun.", _RPC, registry=registry)
        self._handled = Counter(
            "grpc_server_handled", "Calls ended, by code.", (*_RPC, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Time of a call.", _RPC, registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        self._batch = Histogram(
            "reaas_batch_inputs", "Inputs in one message.", ("api",), registry=registry,
            buckets=_SIZES,
        )  # fmt: skip
        self._skipped = Counter(
            "reaas_skipped_jobs", "Queued work dropped, by why.", ("why",), registry=registry
        )
        self._model = Gauge(
            "reaas_model_info", "Models served.", ("model", "version", "digest"), registry=registry
        )
        self._pending = Gauge(
            "reaas_pending_inputs", "Inputs waiting or in work.", registry=registry
        )
        self._pending_limit = Gauge(
            "reaas_pending_inputs_limit", "Most inputs waiting or in work.", registry=registry
        )
        self._keys_stale = Gauge(
            "reaas_keys_stale_seconds",
            "Time since the key file was last taken over whole; 0: at the last look.",
            registry=registry,
        )
        self._engine = Gauge(
            "reaas_engine_info",
            "What computes.",
            ("engine", "version", "provider", "threads"),
            registry=registry,
        )
        for reason in Reason:
            self._refused.labels(reason)
        for why in _SKIPS:
            self._skipped.labels(why)

    def know_clients(self, client_ids: Iterable[str]) -> None:
        """Give clients labels of their own, as long as there is room; they keep them for good."""
        for client_id in client_ids:
            if len(self._metered_clients) < self._max_metered_clients:
                self._metered_clients.add(client_id)

    def begin_at_zero(
        self, api: str, schemes: Iterable[str], phases: Iterable[str], models: Iterable[str]
    ) -> None:
        """Expose what the clients known by name may use of these models, before they do.

        A counter that appears with its first value looks to Prometheus as if it had always had it:
        `increase` misses that value, and the bill is too small.
        """
        for labels in product(sorted(self._metered_clients), schemes, phases, models):
            if labels in self._begun:
                continue
            self._begun.add(labels)
            client, *rest = labels
            for cost in (self._queries, self._request_bytes, self._response_bytes, self._compute):
                cost.labels(client, api, *rest)
            for declared in (self._certificates, self._draws):
                declared.labels(*labels)

    def charge(
        self,
        client: str,
        scheme: str,
        phase: str,
        cost: Cost,
        request: int,
        response: int,
        draws: int | None = None,
    ) -> None:
        """Count one answered message; `request` and `response` are serialized sizes in bytes.

        `draws`: what the client says that one certificate of its inputs takes as SEaaS.
        """
        label = client if client == ANONYMOUS or client in self._metered_clients else OTHER
        labels = (label, cost.api, scheme, phase, cost.model)
        self._queries.labels(*labels).inc(cost.queries)
        self._request_bytes.labels(*labels).inc(request + FRAME_BYTES)
        self._response_bytes.labels(*labels).inc(response + FRAME_BYTES)
        self._compute.labels(*labels).inc(cost.compute_seconds)
        self._batch.labels(cost.api).observe(cost.queries)
        if draws is not None:
            certificates = cost.certificates(scheme, draws)
            declared = (label, scheme, phase, cost.model)
            self._certificates.labels(*declared).inc(certificates)
            self._draws.labels(*declared).inc(certificates * draws)

    def started(self, rpc: RpcName) -> None:
        """Count a call that begins."""
        self._started.labels(*rpc.labels()).inc()

    def handled(self, rpc: RpcName, code: str, seconds: float) -> None:
        """Count a call that ended with `code` (the name of a gRPC status code)."""
        self._handled.labels(*rpc.labels(), code).inc()
        self._seconds.labels(*rpc.labels()).observe(seconds)

    def skipped(self, why: str) -> None:
        """Count queued work that was not done: its caller is "gone", or its "deadline" passed."""
        self._skipped.labels(why).inc()

    def refused(self, reason: str) -> None:
        """Count a call that was refused on purpose."""
        self._refused.labels(reason).inc()

    def watch_pending(self, pending: Callable[[], float], limit: int) -> None:
        """Read the number of pending inputs from `pending` at every scrape."""
        self._pending.set_function(pending)
        self._pending_limit.set(limit)

    def watch_quotas(self, used: Callable[[str], float | None]) -> None:
        """Read what share of its quota each client has used at every scrape; None: it has none."""
        self.registry.register(_QuotaCollector(self._metered_clients, used))

    def watch_keys(self, stale_seconds: Callable[[], float]) -> None:
        """Read at every scrape how long the key file has not been understood as a whole."""
        self._keys_stale.set_function(stale_seconds)

    def show_engine(self, engine: str, version: str, provider: str, threads: int) -> None:
        """Expose what computes, and on how many workers."""
        self._engine.labels(engine, version, provider, str(threads)).set(1)

    def show_models(self, models: Iterable[model_pb2.ModelRef]) -> None:
        """Expose exactly these models."""
        self._model.clear()
        for ref in models:
            self._model.labels(ref.name, ref.version, ref.digest).set(1)


class _QuotaCollector(Collector):
    """Asks for the shares when it is scraped: windows end without anybody's doing."""

    def __init__(self, clients: set[str], used: Callable[[str], float | None]) -> None:
        self._clients, self._used = clients, used

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "reaas_quota_used_ratio", "Share of the client's quota used.", labels=["client"]
        )
        for client in sorted(self._clients):
            if (share := self._used(client)) is not None:
                family.add_metric([client], share)
        yield family
