"""Settings of the pre-training service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_settings import SettingsConfigDict
from reaas_runtime import ServerSettings
from reaas_runtime.settings import Port, is_loopback

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?$")]


class Owner(BaseModel):
    """Object that the Jobs belong to: they are deleted with it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_version: str
    kind: str
    name: str
    uid: str


class KubernetesSettings(BaseModel):
    """How a run becomes a Job, where `launcher` is kubernetes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    namespace: str = "reaas"
    """Namespace of the Jobs; the service's account needs its rights there only."""
    image: str = ""
    """Image of the workers. Empty: that of the pod in which the service runs, whatever the
    operator's manifests have made of its name, with the secrets that pull it."""
    pod: str = ""
    """Name of the pod in which the service runs; manifests give it by the downward API."""
    pull_secrets: tuple[str, ...] = ()
    """Secrets that pull the image; where `image` is empty, those of the service's pod."""
    nodes: PositiveInt = 1
    """Pods of a run; they find each other by torchrun."""
    processes_per_node: PositiveInt = 1
    """Processes in a pod; on GPUs as many as those, since each one has its own."""
    gpus_per_node: NonNegativeInt = 0
    """GPUs of a pod; 0: the CPU."""
    gpu_resource: str = "nvidia.com/gpu"
    """Name under which the cluster hands out GPUs."""
    cpu: Quantity = "2"
    """CPUs of a pod, requested and its limit: training keeps them busy."""
    memory: Quantity = "4Gi"
    """Memory of a pod, requested and its limit: 100,000 images, the network and the queue."""
    scratch: Quantity = "2Gi"
    """Most of a pod's own scratch space; everything else is read-only."""
    runs_claim: str = "reaas-pretrain-runs"
    """Volume claim that holds `runs_dir`; a pod sees its own run's directory only."""
    data_claim: str = "reaas-data"
    """Volume claim that holds `data_root`; read-only for the pods."""
    subdomain: str = "reaas-pretrain-workers"
    """Headless Service through which the pods of a run of several nodes find the first one."""
    user: PositiveInt = 10001
    """User and group of the pods: not root."""
    ttl_s: PositiveInt = 86_400
    """A Job that has ended is deleted after this time; its run stays in `runs_dir`."""
    owner: Owner | None = None
    """Object that the Jobs are deleted with; none: they outlive everything but their time."""

    @model_validator(mode="after")
    def _one_process_for_each_gpu(self) -> Self:
        if self.gpus_per_node not in (0, self.processes_per_node):
            raise ValueError(
                f"gpus_per_node is {self.gpus_per_node} and processes_per_node "
                f"{self.processes_per_node}: set them alike, or gpus_per_node to 0"
            )
        return self


class PretrainSettings(ServerSettings):
    """REaaS pre-training: runs from recipes to published encoders."""

    model_config = SettingsConfigDict(
        cli_prog_name="reaas-pretrain-service", env_nested_delimiter="__"
    )

    port: Port = 50053
    """Port to listen on; 0 lets the system choose. Beside F2I's 50052."""
    metrics_port: Port = 9466
    """Port of the Prometheus endpoint. Beside F2I's 9465."""
    runs_dir: Path = Path("runs")
    """Directory of the runs, one directory each. One service alone may use it."""
    data_root: Path = Path("data")
    """Directory below which clients may name the images of a run."""
    recipes_dir: Path = Path("services/pretrain/recipes")
    """Directory of the recipes (TOML) that clients may name."""
    anonymous_operator: bool = False
    """Let callers without a key make and publish runs. On one's own machine only."""

    launcher: Literal["local", "kubernetes"] = "local"
    """local: processes beside the service; kubernetes: Jobs."""
    kubernetes: KubernetesSettings = KubernetesSettings()
    """How a run becomes a Job."""
    max_running: PositiveInt = 1
    """Most runs at once; a local one takes all cores by itself."""
    max_queued: PositiveInt = 100
    """Most runs waiting; beyond, callers are told to come back later."""
    max_queued_per_client: PositiveInt = 50
    """Most runs of one client waiting: nobody fills the queue alone."""
    max_restarts: NonNegativeInt = 3
    """How often in a row a run whose process was killed goes on from its checkpoint without a new
    epoch: enough for a machine that loses power, few enough that a run that always runs out of
    memory ends. Each epoch that is new starts the count again."""
    threads: NonNegativeInt = 0
    """Threads of a local run; 0: as many as the cgroup grants CPUs (not as the host has)."""
    supervise_s: PositiveFloat = 1.0
    """Seconds between looks at the runs; epochs take longer."""
    watch_s: PositiveFloat = 0.5
    """Seconds between looks at a run for its watchers."""
    max_watchers: PositiveInt = 100
    """Most WatchRun streams at once."""
    max_watchers_per_client: PositiveInt = 20
    """Most WatchRun streams of one client: nobody shuts the others out."""
    cancel_grace_s: NonNegativeFloat = 10.0
    """Time for the process of a cancelled run to end by itself after SIGTERM."""

    @model_validator(mode="after")
    def _anonymous_operator_is_local(self) -> Self:
        if self.anonymous_operator and not (self.allow_anonymous and is_loopback(self.host)):
            raise ValueError(
                f"anonymous_operator lets everybody who reaches host {self.host!r} start runs: "
                "it needs allow_anonymous and a loopback host"
            )
        return self
